// Settings of the tests in TypeScript, without those of the build.
import { defineConfig } from "vitest/config";
import { formulas } from "./formulas.ts";

export default defineConfig({ plugins: [formulas()], test: { include: ["tests/**/*.test.ts"] } });
