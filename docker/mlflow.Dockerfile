# MLflow's tracking server with PostgreSQL's driver, in the versions of constraints.txt.
FROM python:3.13-slim
COPY constraints.txt /tmp/constraints.txt
# From pip 26 on, hashes in a constraints file are checked for whatever is installed.
RUN pip install --no-cache-dir pip==26.3 \
    && pip install --no-cache-dir --require-hashes --constraint /tmp/constraints.txt \
       mlflow 'psycopg[binary]' \
    && useradd --create-home --uid 1000 mlflow \
    && install --directory --owner mlflow /artifacts
USER 1000
WORKDIR /home/mlflow
EXPOSE 5000
CMD ["mlflow", "server", "--host", "0.0.0.0", "--artifacts-destination", "/artifacts"]
