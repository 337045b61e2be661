-- Run once, when the volume is new; the database `mlflow` is made by the image.
CREATE DATABASE mlflow_auth;
CREATE DATABASE prefect;
