import { expect, test } from "vitest";
import { explain, problemFromResponse, problemOf } from "./problem";

test("a problem document is read with its code, field and request id", async () => {
  const body = {
    code: "invalid_argument",
    detail: "message is too long",
    field: "message",
    request_id: "q1",
    retry_after: 2,
  };
  const problem = await problemFromResponse(new Response(JSON.stringify(body), { status: 400 }), 1000);
  expect(problem).toEqual({
    ...{ code: "invalid_argument", status: 400, detail: "message is too long" },
    ...{ field: "message", requestId: "q1", retryAt: 3000, limit: null },
  });
});

test("a proxy's HTML page is a problem too", async () => {
  const headers = { "retry-after": "7", "x-request-id": "q2" };
  const problem = await problemFromResponse(new Response("<html>Bad gateway</html>", { status: 502, headers }), 1000);
  expect(problem).toMatchObject({ code: "http_502", requestId: "q2", retryAt: 8000 });
  expect(explain(problem)).toMatchObject({ retry: true });
});

test.each([413, 429, 503, 502, 404, 500])("status %d without a known code has words of its own", (status) => {
  expect(explain(problemOf(`http_${status}`, { status })).text).not.toBe("");
});

test("the server's own sentence is shown only where it says what to change", () => {
  const detail = "message must be 1 to 10,000 characters";
  expect(explain(problemOf("invalid_argument", { status: 400, detail })).text).toBe(detail);
  expect(
    explain(problemOf("internal", { status: 500, detail: "Traceback (most recent call last)" })).text,
  ).not.toContain("Traceback");
});
