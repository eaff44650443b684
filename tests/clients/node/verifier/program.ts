// Runs the verifier for tests/clients/shared/verifier_drill.py, which describes its lines.
import { createInterface } from "node:readline";
import { Refused, Verifier } from "./index.js";

function setting(name: string): string {
  const value = process.env[`KEYWARD_${name}`];
  if (!value) throw new Error(`KEYWARD_${name} is unset`);
  return value;
}

const verifier = new Verifier({ issuer: setting("ISSUER"), audience: setting("AUDIENCE") });
const [target, protos] = [setting("TARGET"), setting("PROTOS")];
await verifier.follow({ target, protos, clientId: setting("CLIENT_ID"), clientSecret: setting("CLIENT_SECRET") });

function answer(question: string): string {
  const [kind, first = "", second = ""] = question.split(" ");
  if (kind === "ready") return "ready";
  if (kind === "measure") {
    const began = performance.now();
    for (let n = 0; n < Number(first); n++) verifier.verify(second);
    return (((performance.now() - began) * 1000) / Number(first)).toFixed(0);
  }
  try {
    verifier.verify(first);
    return "accepted";
  } catch (error) {
    if (error instanceof Refused) return error.reason;
    throw error;
  }
}

for await (const line of createInterface({ input: process.stdin })) console.log(answer(line));
await verifier.close();
