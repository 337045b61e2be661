# MLflow's own image lacks what PostgreSQL, S3 and passwords need; the versions are the project's.
FROM python:3.11.14-slim-bookworm
COPY constraints.txt /tmp/constraints.txt
RUN pip install --no-cache-dir -c /tmp/constraints.txt 'mlflow[auth]' psycopg2-binary boto3 \
    && useradd --create-home mlflow
COPY compose/mlflow.sh /usr/local/bin/serve-mlflow
USER mlflow
WORKDIR /home/mlflow
EXPOSE 5000
ENTRYPOINT ["sh", "/usr/local/bin/serve-mlflow"]
