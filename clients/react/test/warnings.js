/** React's warnings are errors. A test that expects one replaces `console.error`. */

import { format } from "node:util";

import { afterEach, beforeEach, expect } from "vitest";

/** @type {string[]} */
const printed = [];

beforeEach(() => {
  console.error = (...args) => void printed.push(format(...args));
});

afterEach(() => {
  expect(printed.splice(0)).toEqual([]);
});
