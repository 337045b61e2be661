# MLflow reads the address of its users' database, with a password in it, from a file alone.
set -eu
umask 077
cat > "$HOME/auth.ini" <<END
[mlflow]
default_permission = EDIT
database_uri = $GFPET_AUTH_DATABASE
admin_username = $MLFLOW_AUTH_ADMIN_USERNAME
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
auth_cache_max_size = 1000
END
export MLFLOW_AUTH_CONFIG_PATH="$HOME/auth.ini"
exec mlflow server --host 0.0.0.0 --port 5000 --workers 1 --app-name basic-auth \
    --serve-artifacts --artifacts-destination s3://gfpet/mlflow
