// Asks simulators with the official client, unchanged but for its address and key, and prints what came as JSON.
// Its one argument says where: {"plain", "limited", "failing", "broken"}, each the address of a simulator.
import OpenAI from "openai";

const where = JSON.parse(process.argv[2]);
const client = (baseURL, options = {}) => new OpenAI({ baseURL, apiKey: "sk-js", maxRetries: 0, ...options });
const plain = client(where.plain);
const model = "z-ai/glm-5";
const messages = [{ role: "user", content: "Hi" }];
const parameters = {
  type: "object",
  properties: { city: { type: "string" }, days: { type: "integer", minimum: 1, maximum: 7 } },
  required: ["city", "days"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "weather", parameters, strict: true } }];

async function models() {
  const ids = [];
  for await (const one of plain.models.list()) ids.push(one.id);
  return { ids, one: (await plain.models.retrieve(model)).id };
}

async function whole() {
  const asked = { model, messages, max_tokens: 5, n: 2 };
  const { data, response, request_id } = await plain.chat.completions.create(asked).withResponse();
  return {
    texts: data.choices.map((choice) => choice.message.content),
    reasons: data.choices.map((choice) => choice.finish_reason),
    usage: data.usage,
    remaining: response.headers.get("x-ratelimit-api_key-remaining-requests"),
    request_id,
  };
}

async function streamed() {
  const asked = { model, messages, max_tokens: 5, stream: true, stream_options: { include_usage: true }, seed: 1 };
  let text = "";
  let chunks = 0;
  let reason = null;
  let usage = null;
  for await (const chunk of await plain.chat.completions.create(asked)) {
    chunks += 1;
    text += chunk.choices[0]?.delta?.content ?? "";
    reason = chunk.choices[0]?.finish_reason ?? reason;
    usage = chunk.usage ?? usage;
  }
  const { stream, stream_options, ...unstreamed } = asked;
  const same = (await plain.chat.completions.create(unstreamed)).choices[0].message.content;
  return { text, chunks, reason, usage, same };
}

async function calls() {
  const asked = { model, messages, tools, tool_choice: "required", seed: 1 };
  const [choice] = (await plain.chat.completions.create(asked)).choices;
  const helper = plain.chat.completions.stream({ ...asked, stream_options: { include_usage: true } });
  const deltas = [];
  helper.on("tool_calls.function.arguments.delta", (event) => deltas.push(event.arguments_delta));
  const final = await helper.finalChatCompletion();
  return {
    reason: choice.finish_reason,
    content: choice.message.content,
    calls: choice.message.tool_calls,
    streamed: final.choices[0].message.tool_calls,
    streamed_reason: final.choices[0].finish_reason,
    deltas,
    usage: final.usage,
  };
}

async function ran() {
  // The helper calls the function, gives its result back, and asks until there is a text.
  const seen = [];
  const runner = plain.chat.completions.runTools({
    model,
    messages,
    max_tokens: 40,
    tool_choice: { type: "function", function: { name: "weather" } },
    tools: [
      {
        type: "function",
        function: { name: "weather", parameters, parse: JSON.parse, function: (given) => seen.push(given) },
      },
    ],
  });
  return { last: (await runner.finalMessage()).role, seen };
}

async function structured() {
  const response_format = { type: "json_schema", json_schema: { name: "weather", schema: parameters, strict: true } };
  const reply = await plain.chat.completions.parse({ model, messages, response_format });
  return JSON.parse(reply.choices[0].message.content);
}

async function errorOf(ask) {
  try {
    await ask();
    return null;
  } catch (error) {
    const { status, code, param, type, requestID } = error;
    return { kind: error.constructor.name, status, code, param, type, requestID, message: error.message };
  }
}

async function errors() {
  const ask = (baseURL, options, changes = {}) => () =>
    client(baseURL, options).chat.completions.create({ model, messages, max_tokens: 2, ...changes });
  return {
    unauthorised: await errorOf(ask(where.plain, { apiKey: "sk-invalid" })),
    credit: await errorOf(ask(where.plain, { apiKey: "sk-no-credit" })),
    bad: await errorOf(ask(where.plain, {}, { temperature: 3 })),
    bad_stream: await errorOf(ask(where.plain, {}, { n: 0, stream: true })),
    lost: await errorOf(() => plain.models.retrieve("z-ai/glm-0")),
    missing: await errorOf(() => plain.embeddings.create({ model, input: "x" })),
    broken: await errorOf(ask(where.broken)),
    limited: await (async () => {
      const key = { apiKey: "sk-js-limited" };
      await ask(where.limited, key)();
      return errorOf(ask(where.limited, key));
    })(),
  };
}

async function retries() {
  // Its own: two more attempts, after a pause that the server may name.
  const kind = { maxRetries: 2 };
  const asked = { model, messages, max_tokens: 2 };
  const limited = client(where.limited, kind);
  const began = performance.now();
  for (let count = 0; count < 2; count += 1) await limited.chat.completions.create(asked);
  const waited = performance.now() - began;
  const failing = await client(where.failing, kind).chat.completions.create(asked);
  const broken = await errorOf(() => client(where.broken, kind).chat.completions.create(asked));
  return { waited_ms: waited, failing: failing.choices[0].finish_reason, broken };
}

const result = {};
for (const scenario of [models, whole, streamed, calls, ran, structured, errors, retries]) {
  result[scenario.name] = await scenario();
}
console.log(JSON.stringify(result));
