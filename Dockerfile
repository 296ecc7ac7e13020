# One image; `serve`, `worker` and `migrate` are its commands. Settings are FLASHCLAIM_… variables.
FROM python:3.12-slim AS build
WORKDIR /src
COPY deploy/requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /opt/flashclaim && /opt/flashclaim/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock
COPY api api
COPY cli cli
COPY engine engine
COPY loadtests loadtests
COPY lua lua
RUN /opt/flashclaim/bin/pip install --no-cache-dir --no-deps .

FROM python:3.12-slim
RUN useradd --system --uid 10001 flashclaim
COPY --from=build /opt/flashclaim /opt/flashclaim
ENV PATH=/opt/flashclaim/bin:$PATH
USER flashclaim
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["flashclaim"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
