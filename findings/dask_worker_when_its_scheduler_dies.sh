#!/usr/bin/env bash
# distributed 2026.8.0: workers whose scheduler is killed end with exit code 0.
#
# A worker, and the nanny that restarts workers which die, take a lost scheduler for the end of their work. So what
# restarts programs "on failure" (systemd's Restart=on-failure, Kubernetes' restartPolicy: OnFailure) does not restart
# them when a scheduler has crashed and is back: it stands there without workers. They want Restart=always.
set -euo pipefail
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/python" -m pip install --quiet --disable-pip-version-check distributed==2026.8.0 dask==2026.8.0
cd "$work"
port=$("$work/env/bin/python" -c 'import socket; door = socket.socket(); door.bind(("127.0.0.1", 0)); print(door.getsockname()[1])')
for nanny in --no-nanny --nanny; do
  "$work/env/bin/python" -m distributed.cli.dask_scheduler --host 127.0.0.1 --port "$port" --no-dashboard > scheduler.log 2>&1 &
  scheduler=$!
  "$work/env/bin/python" -m distributed.cli.dask_worker "tcp://127.0.0.1:$port" --nthreads 1 --no-dashboard $nanny > worker.log 2>&1 &
  worker=$!
  for _ in $(seq 600); do grep -q "Starting established connection" worker.log && break; sleep 0.1; done
  kill -KILL "$scheduler"
  wait "$scheduler" 2>/dev/null || true
  code=0
  wait "$worker" || code=$?
  echo "$nanny exit code $code"
done | tee "$work/out"
diff "$work/out" - <<'EOF'
--no-nanny exit code 0
--nanny exit code 0
EOF
