"""Faults in how the server keeps house: key, limits, cancellation, metrics, loading, shutdown."""

from contextlib import asynccontextmanager, contextmanager

from engine.errors import RequestError


def key_compared_by_prefix(plant):
    """A key that begins as the right one does is good enough."""
    plant("engine.gate.is_key", lambda _: lambda presented, key: key.encode().startswith(presented))


def key_for_one_route_only(plant):
    """Only the chat endpoint asks for the key."""

    def fault(call):
        async def faulty(self, scope, receive, send):
            if "chat" in scope.get("path", ""):
                await call(self, scope, receive, send)
            else:
                await self._app(scope, receive, send)

        return faulty

    plant("engine.gate.KeyGate.__call__", fault)


def key_scheme_ignored(plant):
    """Any scheme will do, and none."""

    def fault(presented_key):
        def faulty(scope):
            header = dict(scope["headers"]).get(b"authorization", b"")
            return header.rpartition(b" ")[2]

        return faulty

    plant("engine.gate.presented_key", fault)


def limit_checked_after_reading(plant):
    """The whole body is read before anybody asks how long it is."""

    def fault(read_body):
        async def faulty(request, limit, deadline):
            body = await request.body()
            if len(body) > limit:
                raise RequestError("body: too long", status=413)
            return body

        return faulty

    plant("engine.connection.read_body", fault)


def limit_on_prompt_ignored(plant):
    """--max-prompt-tokens is accepted and forgotten."""

    def fault(start_answer):
        return lambda served, request, limit: start_answer(served, request, None)

    plant("engine.answer.start_answer", fault)


def limit_on_time_ignored(plant):
    """An answer may take as long as it takes."""

    def fault(attended):
        return lambda request, deadline: attended(request, deadline + 3600)

    plant("engine.connection.attended", fault)


def queue_unbounded(plant):
    """Everybody may wait."""

    @contextmanager
    def faulty(self):
        self._present += 1
        yield
        self._present -= 1

    plant("engine.line.Line.place", lambda place: faulty)


def error_event_missing(plant):
    """A stream that fails just ends, as if the answer had."""
    plant("engine.delivery.event_of", lambda event_of: lambda data: (
        "" if "error" in data else event_of(data)
    ))  # fmt: skip


def cancellation_ignored(plant):
    """Nobody watches whether the client is still there."""

    @asynccontextmanager
    async def faulty(request, deadline):
        yield

    plant("engine.connection.attended", lambda attended: faulty)


def cancellation_keeps_the_place(plant):
    """Who is cancelled keeps the place in the line, and sooner or later the line is full."""

    def fault(place):
        @contextmanager
        def faulty(self):
            with place(self):
                try:
                    yield
                except BaseException:
                    self._present += 1
                    raise

        return faulty

    plant("engine.line.Line.place", fault)


def metrics_count_twice(plant):
    """Tokens are counted when they are made, and again when they are sent."""

    def fault(count_tokens):
        def faulty(self, prompt, completion):
            count_tokens(self, prompt, completion)
            count_tokens(self, 0, completion)

        return faulty

    plant("engine.metrics.Metrics.count_tokens", fault)


def metrics_path_as_label(plant):
    """The path that was asked for becomes a label, and clients can make up any number."""
    plant("engine.gate.route_of", lambda route_of: lambda scope: scope["path"])


def metrics_running_one_waits(plant):
    """The request that generates counts as waiting."""
    plant("engine.line.Line.waiting", lambda waiting: lambda self: self._present)


def shutdown_signal_raised_again(plant):
    """uvicorn's own way: the signal is raised again after the shutdown, and kills the process."""

    @contextmanager
    def faulty(server):
        yield

    plant("engine.server._stopping_on_signals", lambda original: faulty)


def shutdown_cuts_answers(plant):
    """A signal ends running answers at once."""
    _with_drain(plant, 0)


def shutdown_waits_for_ever(plant):
    """A signal waits for running answers, however long they take."""
    _with_drain(plant, None)


def _with_drain(plant, seconds):
    def fault(config):
        return lambda app, **options: config(
            app, **options | {"timeout_graceful_shutdown": seconds}
        )

    plant("engine.server.uvicorn.Config", fault)


def loading_health_says_ok(plant):
    """/health says ok as soon as there is a socket."""

    def fault(health):
        async def faulty(self, request):
            from starlette.responses import JSONResponse

            return JSONResponse({"status": "ok"})

        return faulty

    plant("engine.server.Service.health", fault)


def loading_failure_ignored(plant):
    """A server without a model stays up."""
    plant("engine.server._stop_on_failure", lambda original: lambda loading, server: None)


def loading_told_as_missing(plant):
    """Who comes too early is told that there is no such thing."""

    def fault(served):
        def faulty(self):
            from starlette.exceptions import HTTPException

            if not self.loading.done():
                raise HTTPException(404)
            return served(self)

        return faulty

    plant("engine.server.Service._served", fault)


def run_stop_ignored(plant):
    """`run` accepts --stop and goes on."""

    def fault(written):
        def faulty(tokens, text):
            text._stops = ()
            yield from written(tokens, text)

        return faulty

    plant("engine.cli._written", fault)


def run_prints_at_the_end(plant):
    """`run` keeps the text to itself until it has all of it."""

    def fault(written):
        return lambda tokens, text: list(written(tokens, text))

    plant("engine.cli._written", fault)
