# Sourced by every job in the folder of the project: sets PYTHON, and creates .venv where it is not there, once, however
# many jobs begin together. Load modules of your cluster here.
exec 9>>.venv.lock
flock 9
make --no-print-directory setup
flock --unlock 9
exec 9>&-
PYTHON=.venv/bin/python
