"""`python -m cxr_lightning.explain`: heat maps, localisation and features of a bundle."""

from __future__ import annotations

from collections.abc import Sequence

from cxr_lightning.cli import leave, run_verb
from cxr_lightning.config.compose_verbs import compose_data
from cxr_lightning.config.words import print_options
from cxr_lightning.explanation.options import ExplainOptions

__all__ = ["main"]

DESCRIPTION = (
    "Show where a bundle's network looks and what it has learnt to tell apart: heat maps for each "
    "label, as overlays and arrays; how well they meet the boxes that radiologists drew; and the "
    "features of the images, their principal components and clusters. The data are chosen as for "
    "fit (data=NAME and data.KEY=VALUE, see python -m cxr_lightning.fit --help); labels, image "
    "size and inputs beside the image are the bundle's."
)
EXAMPLES = (
    "bundle=runs/NAME/bundle.safetensors data=nih data.root=/data/nih",
    "bundle=runs/NAME/bundle.safetensors data=phantom labels=[Effusion,Mass] method=gradcam++",
    "bundle=A.safetensors data=nih data.root=/data/nih split=all images=[00000032_037.png]",
)


def main(argv: Sequence[str]) -> int:
    """Explain as the command line says; returns the exit code."""
    asked = print_options(
        argv,
        ExplainOptions,
        verb="explain",
        usage="bundle=FILE data=NAME [KEY=VALUE ...]",
        description=DESCRIPTION,
        examples=EXAMPLES,
    )
    if asked:
        return 0
    options, config = compose_data(argv, ExplainOptions)
    # Explaining imports torch; a mistake on the command line is answered before that.
    from cxr_lightning.explanation.run import run_explain

    run_explain(options, config)
    return 0


if __name__ == "__main__":
    leave(run_verb(main))
