#!/usr/bin/env python3
"""A chat provider for tests: a process of its own, strict about what it is sent, with a ledger of every call.

It serves POST /v1/chat/completions and GET /v1/models on loopback, prints its port as the first line, and stops on
SIGTERM. Python's standard library is all that it needs.

The answer is known from the last message alone: its title and summary are words from the message's SHA-256 (see
`answer_of`); every word of it that begins with `promise` becomes an action item, in order, so that a summary of
summaries shows whether anything was lost. The ledger gets one JSON line a call, written before the answer is sent:
{"call", "time", "idempotency_key", "sha256", "model", "roles", "kind", "tokens", "limit", "outcome", "status", "billed"}; `tokens`
is its own count of what it was sent, `billed` marks the calls for which a real provider would send a bill. Faults depend on
the seed, the message and how often it came, not on the order in which calls arrive, so a run can be repeated.
"""

import asyncio
import hashlib
import json
import random
import re
import time

import fake
from fake import Held, Refusal, text_of

# What the real call takes; of what is not served below the value must be the default.
FIELDS = {"model", "messages", "response_format", "max_completion_tokens", "max_tokens", "n", "stream", "temperature", "top_p",
          "seed", "user", "store", "metadata", "stop", "presence_penalty", "frequency_penalty", "reasoning_effort"}
ROLES = {"system", "developer", "user", "assistant"}
FAULTS = ["rate_limited", "server_error", "timeout", "garbage", "empty", "huge", "unfit", "length", "refused", "other_model"]
UNBILLED = {"rate_limited", "server_error"}
ITEMS_MAX = 150
BODY_BYTES_MAX = 26_000_000


def tokens_of(text):
    """What a vocabulary with pieces of four letters makes of it."""
    return len(re.findall(r"[A-Za-z]{1,4}|[^A-Za-z\s]", text))


def answer_of(content):
    """The answer to this message."""
    words = text_of(hashlib.sha256(content.encode()).hexdigest()).split()
    items = list(dict.fromkeys(re.findall(r"\bpromise\w*", content)))[:ITEMS_MAX]
    return {"title": " ".join(words[:2]), "summary": " ".join(words), "key_points": words[:3], "action_items": items,
            "language": "en"}


def bad(message, code="invalid_value"):
    return Refusal(400, code, message)


def check_object(value, required, optional, where):
    """That a value is an object with these members and no others."""
    if not isinstance(value, dict):
        raise bad(f"{where} is no object")
    if missing := set(required) - set(value):
        raise bad(f"{where} lacks {sorted(missing)}", "missing_parameter")
    if unknown := set(value) - set(required) - set(optional):
        raise bad(f"{where} has unknown {sorted(unknown)}", "unknown_parameter")


def check_schema(schema, where="schema"):
    """That a schema is one that strict output takes: every object closed, every member required."""
    if not isinstance(schema, dict):
        raise bad(f"{where} is no schema", "invalid_schema")
    kind = schema.get("type")
    if kind == "object":
        check_object(schema, ["type", "properties", "required", "additionalProperties"], ["description"], where)
        if schema["additionalProperties"] is not False or set(schema["required"]) != set(schema["properties"]):
            raise bad(f"{where} is not closed, or does not require every member", "invalid_schema")
        for name, inner in schema["properties"].items():
            check_schema(inner, f"{where}.{name}")
    elif kind == "array":
        check_object(schema, ["type", "items"], ["description"], where)
        check_schema(schema["items"], f"{where}[]")
    elif kind not in ("string", "integer", "number", "boolean"):
        raise bad(f"{where} has the type {kind!r}", "invalid_schema")


def check_format(style, contents):
    """That the form of the answer is one that is served."""
    if not isinstance(style, dict) or style.get("type") not in ("text", "json_object", "json_schema"):
        raise bad("response_format has no known type", "bad_response_format")
    if style["type"] != "json_schema":
        check_object(style, ["type"], [], "response_format")
        if style["type"] == "json_object" and not any("json" in content.lower() for content in contents):
            raise bad("messages must contain the word json", "bad_response_format")
        return
    check_object(style, ["type", "json_schema"], [], "response_format")
    form = style["json_schema"]
    check_object(form, ["name", "schema"], ["strict", "description"], "json_schema")
    if not isinstance(form["name"], str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", form["name"]):
        raise bad("json_schema.name is none", "bad_response_format")
    if form.get("strict"):
        check_schema(form["schema"])
        if set(form["schema"].get("properties", ())) != set(answer_of("")):
            raise bad("this server can fill in no other schema than that of minutes", "invalid_schema")


def check_request(body):
    """The request, where a real server would take it."""
    try:
        request = json.loads(body)
    except ValueError:
        raise bad("the body is no JSON", "invalid_json") from None
    check_object(request, ["model", "messages"], FIELDS, "the request")
    messages = request["messages"]
    if not isinstance(messages, list) or not messages:
        raise bad("messages is no list, or empty")
    for message in messages:
        check_object(message, ["role", "content"], ["name"], "a message")
        if message["role"] not in ROLES or not isinstance(message["content"], str) or not message["content"]:
            raise bad("a message has no known role, or no text")
    if messages[-1]["role"] != "user":
        raise bad("the last message is not the user's")
    if request.get("stream") or request.get("n", 1) != 1:
        raise bad("streams and several choices are not served", "unsupported_parameter")
    limits = [request[name] for name in ("max_tokens", "max_completion_tokens") if request.get(name) is not None]
    if len(limits) > 1 or any(not isinstance(limit, int) or limit < 1 for limit in limits):
        raise bad("give one limit of tokens, of 1 or more")
    check_format(request.get("response_format", {"type": "text"}), [message["content"] for message in messages])
    return request, limits[0] if limits else 1_000


class Chat(fake.Provider):
    """OpenAI's chat call."""

    def refused(self, refusal):
        return {"error": {"message": str(refusal), "type": "invalid_request_error", "param": None, "code": refusal.code}}

    def check_key(self, call):
        if self.options.key and call.headers.get("authorization") != f"Bearer {self.options.key}":
            raise Refusal(401, "invalid_api_key", "the key is missing or wrong")

    def draw(self, sha256_hex):
        """What happens to this call: `ok` or the name of a fault."""
        draw = random.Random(f"{self.options.seed}/{sha256_hex}/{self.nth(sha256_hex)}").random()
        for fault in FAULTS:
            share = getattr(self.options, fault)
            if draw < share:
                return fault
            draw -= share
        return "ok"

    def note(self, call, about, outcome, status):
        """Appends a call to the ledger; its id."""
        number = self.record(call, idempotency_key=call.headers.get("idempotency-key"), **about, outcome=outcome,
                             status=status, billed=status in (200, None) and outcome not in UNBILLED)
        return {"X-Request-Id": f"req-{number}"}

    async def complete(self, call):
        """Answers one call."""
        about = {}
        try:
            body = await call.body(BODY_BYTES_MAX)
            self.check_key(call)
            request, limit = check_request(body)
            contents = [message["content"] for message in request["messages"]]
            tokens = sum(tokens_of(content) + 4 for content in contents)
            tokens += tokens_of(json.dumps(request.get("response_format", {})))
            sha256_hex = hashlib.sha256(contents[-1].encode()).hexdigest()
            kinds = [kind for kind in ("transcript", "summaries") if f'"{kind}":' in contents[-1]]
            about = {"sha256": sha256_hex, "model": request["model"], "roles": [m["role"] for m in request["messages"]],
                     "kind": kinds[0] if kinds else "other", "tokens": tokens, "limit": limit}
            if self.options.model and request["model"] != self.options.model:
                raise Refusal(404, "model_not_found", f"there is no model {request['model']!r}")
            if self.options.context and tokens + limit > self.options.context:
                raise Refusal(400, "context_length_exceeded", f"{tokens} + {limit} tokens are too many")
        except Refusal as refusal:
            self.note(call, about, refusal.code, refusal.status)
            raise
        outcome = self.draw(sha256_hex)
        status = {"rate_limited": 429, "server_error": 503, "timeout": None}.get(outcome, 200)
        further = self.note(call, about, outcome, status)
        if outcome == "timeout":
            raise Held
        await asyncio.sleep(self.options.delay_ms / 1000)
        if outcome == "rate_limited":
            wait = {"Retry-After": str(self.options.retry_after_s)}
            raise Refusal(429, "rate_limit_exceeded", "slow down", further | wait)
        if outcome == "server_error":
            raise Refusal(503, "server_error", "out of order", further)
        if outcome == "garbage":
            return 200, further, "<!doctype html><title>Please sign in</title>"
        return 200, further, self.completion(request, contents[-1], tokens, outcome)

    def completion(self, request, content, tokens, outcome):
        """The body of a success, or of what looks like one."""
        style = request.get("response_format", {}).get("type", "text")
        answer = answer_of(content)
        text = json.dumps(answer) if style != "text" else answer["summary"]
        message, reason = {"role": "assistant", "content": text, "refusal": None}, "stop"
        if outcome == "huge":
            message["content"] = json.dumps(answer | {"summary": "more " * 1_000_000})
        elif outcome == "unfit":
            message["content"] = json.dumps({"minutes": answer["summary"], "key_points": "none"})
        elif outcome == "length":
            message["content"], reason = text[: len(text) // 2], "length"
        elif outcome == "refused":
            message["content"], message["refusal"] = None, "I cannot help with that."
        model = "another-model" if outcome == "other_model" else request["model"]
        written = tokens_of(message["content"] or "")
        choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}]
        return {"id": f"chatcmpl-{self.calls}", "object": "chat.completion", "created": int(time.time()), "model": model,
                "choices": [] if outcome == "empty" else choices,
                "usage": {"prompt_tokens": tokens, "completion_tokens": written, "total_tokens": tokens + written}}

    async def answer(self, call):
        """Finds the call that is meant."""
        if (call.method, call.path) == ("POST", "/v1/chat/completions"):
            if call.headers.get("content-type", "").partition(";")[0] != "application/json":
                raise Refusal(415, "not_json", "application/json is expected")
            return await self.complete(call)
        if (call.method, call.path) == ("GET", "/v1/models"):
            self.check_key(call)
            model = {"id": self.options.model or "fake", "object": "model", "created": 0, "owned_by": "tests"}
            return 200, {}, {"object": "list", "data": [model]}
        raise Refusal(404, "not_found", f"there is no {call.method} {call.path}")


def main():
    parser = fake.arguments(__doc__.splitlines()[0])
    parser.add_argument("--model", help="the only model that there is; without it any is taken")
    parser.add_argument("--context", type=int, default=0, help="tokens of a request and its answer, at most; 0: any")
    for fault in FAULTS:
        if fault not in fake.FAULTS:
            parser.add_argument(f"--{fault.replace('_', '-')}", type=float, default=0, metavar="SHARE", help="of the calls")
    options = parser.parse_args()

    async def start():
        await fake.run(Chat(options))

    asyncio.run(start())


if __name__ == "__main__":
    main()
