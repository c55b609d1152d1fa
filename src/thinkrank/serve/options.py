"""How a run is served."""

from pydantic import Field, PositiveFloat, PositiveInt

from thinkrank.options import Options

BY_OPTION = {
    "hosts": "--allow-host",
    "key_hashes": "--keys",
    "items_file": "--items-file",
    "log_histories": "--log-histories",
}
"""Limits that `thinkrank serve` takes by an option of their own, not by --set."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ServeOptions(Options):
    """Hold the limits of a server, and who may ask it."""

    hosts: tuple[str, ...] = Field(
        LOOPBACK, description="names under which the server may be asked; `*` for any, behind a proxy that checks them"
    )
    key_hashes: tuple[str, ...] = Field(
        (), description="SHA-256 of the keys that open the server, in hexadecimal digits; none asks for no key"
    )
    max_body_bytes: PositiveInt = Field(
        262_144, description="bytes of a request's body at most, refused before reading"
    )
    max_history: PositiveInt = Field(2_000, description="items of a history at most")
    max_k: PositiveInt = Field(200, description="items of an answer at most")
    max_documents: PositiveInt = Field(1_000, description="candidates that one request may have ranked at most")
    max_new_items: PositiveInt = Field(1_000, description="items that one request may add at most")
    max_writing: PositiveInt = Field(32, description="requests that are written for at once")
    max_waiting_to_write: PositiveInt = Field(
        8, description="further requests that may wait to be written for; those behind are answered 429"
    )
    max_reading: PositiveInt = Field(64, description="requests without a written thought that are answered together")
    max_waiting_to_read: PositiveInt = Field(
        64, description="further requests that may wait to be read; those behind are answered 429"
    )
    deadline_seconds: PositiveFloat = Field(30.0, description="time after which a request is given up and answered 504")
    max_new_tokens: PositiveInt = Field(256, description="tokens that a request may ask a thought to have at most")
    kept_tokens: int = Field(
        16_384,
        ge=0,
        description="tokens of histories whose states are kept, so that only new events are read; one takes 45 KiB "
        "with SmolLM2-135M in fp32",
    )
    kept_thoughts: int = Field(1_024, ge=0, description="thoughts that are kept, so that the same is not written twice")
    kv_gib: PositiveFloat = Field(
        1.0, description="memory that keys and values of thoughts being written may take, in GiB"
    )
    log_histories: bool = Field(False, description="write histories and users into the log")
    items_file: str | None = Field(
        None, description="JSON file that keeps added and withdrawn items over restarts; none forgets them"
    )
