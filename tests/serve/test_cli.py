"""What `thinkrank serve` says before it serves."""

import socket
from pathlib import Path

import pytest

from cli.test_cli import thinkrank
from thinkrank.serve import auth


def test_a_new_key_comes_with_its_hash():
    told = thinkrank("serve", "--new-key")
    key, hashed = (line.split()[1] for line in told.stdout.splitlines())
    assert (told.returncode, auth.hash_of(key)) == (0, hashed)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere",), "no saved model here"),
        (("nowhere", "--host", "0.0.0.0"), "give --keys FILE (make a key with `thinkrank serve --new-key`)"),
        (("nowhere", "--set", "max_writting=3"), "max_writing"),
        (("nowhere", "--set", "max_writing=0"), "max_writing"),
        (("nowhere", "--set", 'hosts=["*"]'), "--set hosts: give --allow-host instead"),
        (("nowhere", "--keys", "none.txt"), "none.txt"),
        (("nowhere", "--keys", "~/none.txt"), str(Path.home() / "none.txt")),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(arguments, says, tmp_path):
    told = thinkrank("serve", *arguments, cwd=tmp_path)
    assert told.returncode == 2
    assert says in told.stderr
    assert told.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = thinkrank("serve", "nowhere", "--port", str(port), cwd=tmp_path)
    assert told.returncode == 2
    assert f"port {port} of 127.0.0.1 cannot be had" in told.stderr
    assert "give another --port" in told.stderr
    assert told.stderr.count("\n") == 1
