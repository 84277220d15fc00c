// Uses the official client against the gateway at BASE_URL; prints what it saw as JSON, for the test to judge.
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: "x", maxRetries: 0 });
const messages = [{ role: "user", content: "Where is my order?" }];
const tools = [{ type: "function", function: { name: "track", parameters: { type: "object", properties: {} } } }];
const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false };

const failure = async (work) => {
  try {
    await work();
    return null;
  } catch (error) {
    return { type: error.constructor.name, status: error.status, code: error.code, param: error.param };
  }
};

const scenarios = {
  async chat() {
    const { data, response } = await client.chat.completions.create({ model: "auto", messages }).withResponse();
    return { text: data.choices[0].message.content, expert: response.headers.get("x-largeforge-expert") };
  },
  async stream() {
    const stream = await client.chat.completions.create({
      model: "auto", messages, stream: true, stream_options: { include_usage: true },
    });
    let text = "", total;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      total = chunk.usage?.total_tokens ?? total;
    }
    return { text, total };
  },
  async tools() {
    const answer = await client.chat.completions.create({ model: "general", messages, tools });
    return answer.choices[0].message.tool_calls[0].function;
  },
  async structured() {
    const answer = await client.chat.completions.parse({
      model: "general", messages,
      response_format: { type: "json_schema", json_schema: { name: "place", schema, strict: true } },
    });
    return JSON.parse(answer.choices[0].message.content);
  },
  async completion() {
    const answer = await client.completions.create({ model: "general", prompt: "Once", n: 2, seed: 7 });
    return { texts: answer.choices.map((choice) => choice.text), seed: answer.system_fingerprint };
  },
  async embeddings() {
    const answer = await client.embeddings.create({ model: "vectors", input: ["four", "seven77"] });
    return answer.data.map((item) => item.embedding);
  },
  async models() {
    const names = [];
    for await (const model of client.models.list()) names.push(`${model.id}:${model.task}`);
    return names;
  },
  async batch() {
    const line = { custom_id: "a", method: "POST", url: "/v1/chat/completions", body: { model: "general", messages } };
    const input = await toFile(Buffer.from(JSON.stringify(line) + "\n"), "in.jsonl");
    const file = await client.files.create({ file: input, purpose: "batch" });
    let batch = await client.batches.create({
      input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h",
    });
    while (batch.status !== "completed") batch = await client.batches.retrieve(batch.id);
    const output = JSON.parse(await (await client.files.content(batch.output_file_id)).text());
    const kinds = [];
    for await (const listed of client.files.list()) kinds.push(listed.purpose);
    const deleted = await client.files.delete(file.id);
    return { id: output.custom_id, status: output.response.status_code, kinds, deleted: deleted.deleted };
  },
  async errors() {
    return {
      missing: await failure(() => client.chat.completions.create({ model: "auto" })),
      kind: await failure(() => client.embeddings.create({ model: "general", input: "x" })),
      unknown: await failure(() => client.embeddings.create({ model: "nobody", input: "x" })),
      file: await failure(() => client.files.retrieve("file-0")),
      path: await failure(() => client.get("/nothing")),
    };
  },
  async cancel() {
    const controller = new AbortController();
    const stream = await client.chat.completions.create(
      { model: "support", messages, stream: true }, { signal: controller.signal },
    );
    for await (const chunk of stream) {
      controller.abort();
      return chunk.choices[0].delta.content;
    }
  },
};

const seen = {};
for (const name of process.argv.slice(2)) seen[name] = await scenarios[name]();
console.log(JSON.stringify(seen));
