"""Serve a run, or a saved stage, on several replicas of Ray Serve on this machine, until Ctrl-C or SIGTERM.

python docs/guide/replicas.py runs/demo --port 8000 --replicas 2
"""

import argparse
import signal
import sys
import threading

from fastapi import FastAPI
from ray import serve

from thinkrank.serve import ServeOptions, create_app, open_served


def deployment(run: str, replicas: int) -> serve.Deployment:
    """Return replicas of the application; each of them loads the run."""

    def app() -> FastAPI:
        options = ServeOptions()
        return create_app(open_served(run, options), options)

    made = serve.deployment(num_replicas=replicas, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5})
    return made(serve.ingress(app)())


def main() -> None:
    """Serve until a signal to end."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("run", help="folder of a run or of a saved stage")
    options.add_argument("--port", type=int, default=8000, help="port on 127.0.0.1")
    options.add_argument("--replicas", type=int, default=2, help="processes that answer")
    arguments = options.parse_args()
    serve.start(http_options={"host": "127.0.0.1", "port": arguments.port})
    serve.run(deployment(arguments.run, arguments.replicas).bind(), name="thinkrank", route_prefix="/")
    sys.stdout.write(f"{arguments.replicas} replicas at http://127.0.0.1:{arguments.port}\n")
    sys.stdout.flush()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    serve.shutdown()


if __name__ == "__main__":
    main()
