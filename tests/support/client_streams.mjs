// As client_streams.py, with the openai package for Node: node client_streams.mjs DIRECTORY PORT SCENARIO...
// DIRECTORY is where node_modules is.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const [directory, port, ...scenarios] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(directory), "here.cjs"));
const OpenAI = require("openai").default ?? require("openai");
const installed = path.join(directory, "node_modules", "openai", "package.json");
const { version } = JSON.parse(readFileSync(installed, "utf8"));

for (const text of scenarios) {
  const scenario = JSON.parse(text);
  const outcome = { name: scenario.name, version, pieces: [] };
  const client = new OpenAI({
    baseURL: `http://127.0.0.1:${port}/v1`,
    apiKey: "unused",
    maxRetries: scenario.max_retries,
    defaultHeaders: scenario.headers,
  });
  try {
    const messages = [{ role: "user", content: scenario.name }];
    const stream = await client.chat.completions.create({ model: "m", messages, stream: true });
    for await (const chunk of stream) outcome.pieces.push(chunk.choices[0].delta.content);
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    outcome.code = error.code ?? error.error?.error?.code;
    outcome.status = error.status ?? null;
    outcome.message = error.message;
  }
  console.log(JSON.stringify(outcome));
}
