"""Why a network says what it says: heat maps, overlays, features, and how they are written down."""
