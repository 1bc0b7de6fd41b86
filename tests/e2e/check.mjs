// Assertions, and waiting for a condition with a timeout.

/// Fails the case with `message` unless `condition` holds.
export function check(condition, message) {
  if (!condition) throw new Error(message);
}

/// Fails the case unless both values are equal.
export function same(actual, expected, what) {
  const [one, other] = [show(actual), show(expected)];
  check(one === other, `${what}: expected ${other}, got ${one}`);
}

function show(value) {
  return JSON.stringify(value, (_, part) => (typeof part === "bigint" ? `${part}n` : part));
}

/// Calls `probe` until it returns a truthy value, and returns that value. Fails after `seconds` with a message that names
/// `what`.
export async function until(what, probe, seconds = 60) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const answer = await probe();
    if (answer) return answer;
    check(Date.now() < deadline, `timed out after ${seconds} s waiting for ${what}`);
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

/// Waits for `promise`. Fails after `seconds` with a message that names `what`.
export async function within(what, promise, seconds = 60) {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`timed out after ${seconds} s waiting for ${what}`)), seconds * 1000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
