export PATH=/var/tmp/v3/bin:/root/.pyenv/versions/3.11.7/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=$PWD OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
