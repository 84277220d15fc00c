"""Images that the files name, and how that of the gateway is built."""

from __future__ import annotations

import largeforge

VLLM_VERSION = "0.32.0"
"""What LargeForge is tested with (`requirements/cuda.txt`, `requirements/cpu.txt`)."""
VLLM = {
    "cuda": f"docker.io/vllm/vllm-openai:v{VLLM_VERSION}",
    "cpu": f"public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:v{VLLM_VERSION}",
}
"""Upstream's images by device (docs.vllm.ai, "Using Docker" and "CPU: pre-built images")."""
GATEWAY = f"largeforge-gateway:{largeforge.__version__}"
"""Name of the image that the Containerfile builds."""
GATEWAY_USER = 10001
CONTAINERFILE = "Containerfile"


def containerfile(*, has_traces: bool) -> str:
    """Return how the gateway's image is built; operators call it from inside, which takes the client."""
    extras = "gateway,client,tracing" if has_traces else "gateway,client"
    return f"""\
# The gateway: docker build -f {CONTAINERFILE} -t {GATEWAY} .
FROM docker.io/library/python:3.12-slim
ARG LARGEFORGE="largeforge[{extras}]=={largeforge.__version__}"
RUN pip install --no-cache-dir "$LARGEFORGE" \\
 && useradd --uid {GATEWAY_USER} --user-group --create-home largeforge \\
 && install -d -o largeforge -g largeforge /var/lib/largeforge
USER {GATEWAY_USER}
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ENTRYPOINT ["python", "-m", "largeforge.gateway"]
"""
