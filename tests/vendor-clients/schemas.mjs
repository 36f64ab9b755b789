// Validators made from GitHub's published descriptions: answers of the REST API (OpenAPI 3.0) and webhooks (3.1).

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import Ajv from "ajv";
import Ajv2020 from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

const require = createRequire(import.meta.url);
const load = (path) => JSON.parse(readFileSync(require.resolve(path), "utf8"));

// Objects whose fields we know completely: a field that is not described is a misspelt one.
const CLOSED = new Set([
  "hook-delivery",
  "hook-delivery-item",
  "installation",
  "installation-token",
  "integration",
  "job",
  "rate-limit",
  "runner",
  "runner-groups-org",
  "runner-label",
  "simple-user",
  "organization-simple-webhooks",
  "simple-installation",
]);

function close(schemas) {
  for (const name of CLOSED) {
    if (schemas[name]?.properties && schemas[name].additionalProperties === undefined) {
      schemas[name].additionalProperties = false;
    }
  }
}

// OpenAPI 3.0 says `nullable` where JSON Schema says a type of null.
function allowNull(node) {
  if (Array.isArray(node)) {
    node.forEach(allowNull);
    return;
  }
  if (node === null || typeof node !== "object") return;
  if (node.nullable === true) {
    delete node.nullable;
    if (node.enum) node.enum = [...node.enum, null];
    for (const key of ["anyOf", "oneOf"]) if (node[key]) node[key].push({ type: "null" });
    if (node.allOf || node.$ref) {
      const { allOf, $ref } = node;
      delete node.allOf;
      delete node.$ref;
      node.anyOf = [allOf ? { allOf } : { $ref }, { type: "null" }];
    }
    if (typeof node.type === "string") node.type = [node.type, "null"];
  }
  Object.values(node).forEach(allowNull);
}

const pointer = (...parts) =>
  "#/" + parts.map((part) => encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1"))).join("/");

const settings = { strict: false, allErrors: true, logger: false };

function explain(errors) {
  return errors.slice(0, 8).map((e) => `${e.instancePath || "/"} ${e.message} ${JSON.stringify(e.params)}`).join("; ");
}

/** Says of an answer of the REST API what is wrong with it, or nothing. */
export function restValidator() {
  const api = load("@octokit/openapi/generated/api.github.com.json");
  // Described inline, with an account that would have to be a user and an enterprise at once; the component has it right.
  api.paths["/app/installations"].get.responses["200"].content["application/json"].schema.items = {
    $ref: "#/components/schemas/installation",
  };
  allowNull(api.paths);
  allowNull(api.components);
  close(api.components.schemas);
  const ajv = addFormats(new Ajv(settings));
  ajv.addSchema(api, "api");
  const compiled = new Map();
  return (method, path, status, body) => {
    const operation = api.paths[path]?.[method.toLowerCase()];
    if (!operation) return `no such operation: ${method} ${path}`;
    let response = operation.responses[String(status)];
    let where = ["paths", path, method.toLowerCase(), "responses", String(status)];
    if (response?.$ref) {
      where = ["components", "responses", response.$ref.split("/").pop()];
      response = api.components.responses[where[2]];
    }
    if (!response) {
      // 401, 403, 404 and 422 are left out of many operations and have one shape everywhere.
      if (![401, 403, 404, 422].includes(status)) return `the status ${status} is not described`;
      where = ["components", "schemas", "basic-error"];
    } else if (!response.content) {
      return body === undefined || body === "" ? undefined : `a body where none is described: ${body}`;
    } else {
      where.push("content", "application/json", "schema");
    }
    const key = where.join(" ");
    if (!compiled.has(key)) compiled.set(key, ajv.compile({ $ref: "api" + pointer(...where) }));
    const validate = compiled.get(key);
    return validate(body) ? undefined : explain(validate.errors);
  };
}

/** Says of a webhook what is wrong with it, or nothing. */
export function webhookValidator() {
  const hooks = load("@octokit/openapi-webhooks/generated/api.github.com.json");
  close(hooks.components.schemas);
  const ajv = addFormats(new Ajv2020(settings));
  ajv.addSchema(hooks, "hooks");
  return (event, payload) => {
    const name = ["webhook", event, payload.action].filter(Boolean).join("-").replaceAll("_", "-");
    if (!hooks.components.schemas[name]) return `no such webhook: ${name}`;
    const validate = ajv.getSchema(`hooks${pointer("components", "schemas", name)}`);
    return validate(payload) ? undefined : explain(validate.errors);
  };
}

/** GitHub's own examples of an event. */
export function examples(event) {
  return load("@octokit/webhooks-examples/api.github.com/index.json").find((one) => one.name === event).examples;
}
