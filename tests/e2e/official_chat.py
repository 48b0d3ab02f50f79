"""The chat provider for tests is what OpenAI's own Python client takes it for: so what Hansard sends to it, it could send to
any server that this client works with."""

import hashlib
import json
import sys
import tempfile
import unittest

from hansard import ROOT, Chat

sys.path.insert(0, str(ROOT / "tests" / "services"))
sys.path.insert(0, str(ROOT / "tests" / "providers"))

import fake_chat
import service

# It comes from PyPI once, into the cache.
CLIENT = ["openai==3.57.0"]
KEY = "sk-official"
SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "summary": {"type": "string"},
        "key_points": {"type": "array", "items": {"type": "string"}},
        "action_items": {"type": "array", "items": {"type": "string"}},
        "language": {"type": "string"},
    },
    "required": ["title", "summary", "key_points", "action_items", "language"],
    "additionalProperties": False,
}
STRICT = {"type": "json_schema", "json_schema": {"name": "minutes", "strict": True, "schema": SCHEMA}}
SAID = [{"role": "system", "content": "Answer in JSON."}, {"role": "user", "content": "promise1 and promise2"}]


def official():
    """The client, importable after its first download."""

    def fetch(target):
        service.retried([sys.executable, "-m", "pip", "install", "--quiet", "--target", target, *CLIENT])

    name = hashlib.sha256(" ".join([sys.version, *CLIENT]).encode()).hexdigest()[:12]
    path = str(service.cached(f"python-openai-{name}", fetch))
    if path not in sys.path:
        sys.path.insert(0, path)
    import openai

    return openai


class Official(unittest.TestCase):
    """`client.chat.completions.create`, unchanged."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="hansard-e2e-")
        self.addCleanup(directory.cleanup)
        self.directory, self.openai = directory.name, official()

    def client(self, *options):
        chat = Chat(self.directory, "--key", KEY, "--model", "fake", *options)
        self.addCleanup(chat.stop)
        return self.openai.OpenAI(base_url=f"{chat.url}/v1", api_key=KEY, max_retries=0), chat

    def test_answers_are_read(self):
        client, chat = self.client()
        expected = fake_chat.answer_of(SAID[1]["content"])
        for style in (STRICT, {"type": "json_object"}):
            told = client.chat.completions.create(
                model="fake", messages=SAID, response_format=style, max_completion_tokens=500
            )
            [choice] = told.choices
            self.assertEqual(json.loads(choice.message.content), expected)
            self.assertEqual((choice.finish_reason, choice.message.refusal, told.model), ("stop", None, "fake"))
            self.assertEqual(told.usage.total_tokens, told.usage.prompt_tokens + told.usage.completion_tokens)
        self.assertEqual(expected["action_items"], ["promise1", "promise2"])
        self.assertEqual([model.id for model in client.models.list()], ["fake"])
        self.assertEqual([call["outcome"] for call in chat.calls()], ["ok", "ok"])

    def test_refusals_are_the_clients_own_errors(self):
        openai = self.openai
        client, _ = self.client("--context", "2000")
        broken = {**STRICT, "json_schema": {**STRICT["json_schema"], "schema": {**SCHEMA, "required": []}}}
        wrong = [
            (openai.NotFoundError, "model_not_found", {"model": "other"}),
            (openai.BadRequestError, "context_length_exceeded", {"max_completion_tokens": 2_000}),
            (openai.BadRequestError, "invalid_schema", {"response_format": broken}),
            (openai.BadRequestError, "unknown_parameter", {"extra_body": {"mood": "good"}}),
            (openai.BadRequestError, "invalid_value", {"messages": [{"role": "boss", "content": "obey"}]}),
        ]
        for error, code, change in wrong:
            with self.subTest(code), self.assertRaises(error) as refused:
                client.chat.completions.create(**{"model": "fake", "messages": SAID, **change})
            self.assertEqual(refused.exception.code, code)
        with self.assertRaises(openai.AuthenticationError):
            client.with_options(api_key="sk-other").chat.completions.create(model="fake", messages=SAID)

    def test_faults_are_the_clients_own_errors(self):
        openai = self.openai
        cases = [
            ("--rate-limited", openai.RateLimitError),
            ("--server-error", openai.InternalServerError),
            ("--timeout", openai.APITimeoutError),
        ]
        for fault, error in cases:
            client, _ = self.client(fault, "1")
            with self.subTest(fault), self.assertRaises(error) as refused:
                client.with_options(timeout=2).chat.completions.create(model="fake", messages=SAID)
            if fault == "--rate-limited":
                self.assertEqual(refused.exception.response.headers["retry-after"], "1")
        for fault, reason in [("--length", "length"), ("--refused", "stop")]:
            client, _ = self.client(fault, "1")
            [choice] = client.chat.completions.create(model="fake", messages=SAID).choices
            self.assertEqual((choice.finish_reason, bool(choice.message.refusal)), (reason, reason == "stop"))


if __name__ == "__main__":
    unittest.main()
