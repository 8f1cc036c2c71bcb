// OpenAI's own npm package, unchanged, against the whole system; tests/e2e/test_openai_npm.py starts it.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import OpenAI from "openai";

const { PARLEY_BASE_URL: baseURL, PARLEY_API_KEY: apiKey, PROVIDER_URL: provider } = process.env;
const client = new OpenAI({ baseURL, apiKey });

/** Words that no other test says, and a prompt of them. */
function unique(text) {
  const words = `${text} ${randomUUID()}`;
  return [words, [{ role: "user", content: words }]];
}

/** Tells the provider what to do when it is asked these words. */
async function script(words, behaviour, more = {}) {
  const body = JSON.stringify({ behaviour, match: words, ...more });
  const answer = await fetch(`${provider}/_script`, { method: "POST", body });
  assert.equal(answer.status, 204, await answer.text());
}

/** Waits until the provider has a request of these words for which the condition holds. */
async function asked(words, condition = () => true) {
  for (;;) {
    const requests = await (await fetch(`${provider}/_requests`)).json();
    const found = requests.find((one) => JSON.stringify(one.body).includes(words) && condition(one));
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const weather = {
  type: "function",
  function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } },
};

test("an answer comes whole", async () => {
  const [words, messages] = unique("Hello");
  await script(words, { kind: "answer", text: "Grüße, wörtlich 🌍" });
  const { data, request_id } = await client.chat.completions.create({ model: "fast", messages }).withResponse();
  assert.equal(data.choices[0].message.content, "Grüße, wörtlich 🌍");
  assert.equal(data.choices[0].finish_reason, "stop");
  assert.equal(data.usage.prompt_tokens, 11);
  assert.ok(request_id);
});

test("an answer is streamed, with the tokens used", async () => {
  const [words, messages] = unique("Hello");
  await script(words, { kind: "answer", text: "one two three", delay_s: 0.05 });
  const stream = client.chat.completions.stream({
    model: "fast",
    messages,
    stream_options: { include_usage: true },
  });
  const pieces = [];
  stream.on("content", (piece) => pieces.push(piece));
  assert.equal(await stream.finalContent(), "one two three");
  assert.ok(pieces.length > 1);
  assert.equal((await stream.totalUsage()).completion_tokens, 3);
});

test("tools are called side by side, and answered", async () => {
  const [words, messages] = unique("The weather");
  const tools = ["Bonn", "Rome"].map((city) => ({ name: "weather", arguments: JSON.stringify({ city }) }));
  await script(words, { kind: "answer", text: "", tools }, { step: 0 });
  await script(words, { kind: "answer", text: "Mild and hot." }, { step: 1 });
  const cities = [];
  const runner = client.chat.completions.runTools({
    model: "fast",
    messages,
    tools: [
      {
        type: "function",
        function: {
          ...weather.function,
          parse: JSON.parse,
          function: ({ city }) => {
            cities.push(city);
            return "fine";
          },
        },
      },
    ],
  });
  assert.equal(await runner.finalContent(), "Mild and hot.");
  assert.deepEqual(cities, ["Bonn", "Rome"]);
});

test("an answer follows a schema", async () => {
  const [words, messages] = unique("A city");
  await script(words, { kind: "answer", text: '{"name": "Bonn"}' });
  const schema = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };
  const answer = await client.chat.completions.create({
    model: "fast",
    messages,
    response_format: { type: "json_schema", json_schema: { name: "city", schema, strict: true } },
  });
  assert.deepEqual(JSON.parse(answer.choices[0].message.content), { name: "Bonn" });
  const { body } = await asked(words);
  assert.deepEqual(body.response_format.json_schema.schema, schema);
});

test("texts become vectors", async () => {
  const texts = [randomUUID(), "four"];
  const { data } = await client.embeddings.create({ model: "openai/text-embedding-3-small", input: texts, dimensions: 2 });
  assert.deepEqual(
    data.map((one) => Array.from(one.embedding)),
    [
      [36, 0.5],
      [4, 0.5],
    ],
  );
});

test("models are listed and found", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes("fast"));
  assert.equal((await client.models.retrieve("fast")).object, "model");
});

test("a wrong key is told", async () => {
  await assert.rejects(new OpenAI({ baseURL, apiKey: "plk_wrong" }).models.list(), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.code, "invalid_api_key");
    return true;
  });
});

test("a model that there is not is told", async () => {
  const [, messages] = unique("Hello");
  await assert.rejects(client.chat.completions.create({ model: "no-such-model", messages }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.deepEqual([error.code, error.param], ["model_not_found", "model"]);
    return true;
  });
});

test("what is wrong is named", async () => {
  await assert.rejects(client.chat.completions.create({ model: "fast", messages: [], n: 2 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "messages");
    return true;
  });
});

test("a provider that is busy is told, and tried again by the client", async () => {
  const [words, messages] = unique("Hello");
  await script(words, { kind: "fault", status: 429 }, { times: 3 });
  await script(words, { kind: "answer", text: "At last." });
  await assert.rejects(client.chat.completions.create({ model: "fast", messages }, { maxRetries: 0 }), (error) => {
    assert.ok(error instanceof OpenAI.RateLimitError);
    return true;
  });
  const answer = await client.chat.completions.create({ model: "fast", messages });
  assert.equal(answer.choices[0].message.content, "At last.");
});

test("a model that goes silent is told in the stream", async () => {
  const [words, messages] = unique("Hello");
  await script(words, { kind: "stall", after: 1 });
  const stream = await client.chat.completions.create({ model: "fast", messages, stream: true });
  const read = async () => {
    for await (const chunk of stream) assert.equal(chunk.object, "chat.completion.chunk");
  };
  await assert.rejects(read(), (error) => {
    assert.ok(error instanceof OpenAI.APIError);
    assert.equal(error.code, "stream_stalled");
    return true;
  });
});

test("who stops listening stops the model", { timeout: 20_000 }, async () => {
  const [words, messages] = unique("Hello");
  await script(words, { kind: "stall", after: 1 });
  const stream = await client.chat.completions.create({ model: "fast", messages, stream: true });
  for await (const chunk of stream) {
    if (chunk.choices[0].delta.content) break;
  }
  assert.equal((await asked(words, (one) => one.closed_early)).closed_early, true);
});

test("who stops waiting stops the model", { timeout: 20_000 }, async () => {
  const [words, messages] = unique("Hello");
  await script(words, { kind: "stall", after: 1 });
  const abort = new AbortController();
  const asking = client.chat.completions.create({ model: "fast", messages }, { signal: abort.signal });
  const refused = assert.rejects(asking, OpenAI.APIUserAbortError);
  await asked(words);
  abort.abort();
  await refused;
  assert.equal((await asked(words, (one) => one.closed_early)).closed_early, true);
});

test("a response is kept, gone on with and deleted", async () => {
  const [words] = unique("Remember");
  await script(words, { kind: "answer", text: "I shall." });
  const first = await client.responses.create({ model: "fast", input: words });
  assert.equal(first.output_text, "I shall.");
  const asked = [];
  for await (const item of client.responses.inputItems.list(first.id)) asked.push(item.content[0].text);
  assert.deepEqual(asked, [words]);
  const stream = client.responses.stream({ model: "fast", input: "And?", previous_response_id: first.id });
  const second = await stream.finalResponse();
  assert.equal(second.conversation.id, first.conversation.id);
  await assert.rejects(client.responses.delete(first.id), OpenAI.ConflictError);
  await client.conversations.delete(first.conversation.id);
  await assert.rejects(client.responses.retrieve(second.id), OpenAI.NotFoundError);
  const alone = await client.responses.create({ model: "fast", input: words });
  await client.responses.delete(alone.id);
  await assert.rejects(client.responses.retrieve(alone.id), OpenAI.NotFoundError);
});
