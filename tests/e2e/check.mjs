// What every part of the test needs: refusals to go on, and waiting for what can be seen.

/// Ends the case with `message` unless `condition` holds.
export function check(condition, message) {
  if (!condition) throw new Error(message);
}

/// Ends the case unless both are the same, by value.
export function same(actual, expected, what) {
  const [one, other] = [show(actual), show(expected)];
  check(one === other, `${what}: expected ${other}, got ${one}`);
}

function show(value) {
  return JSON.stringify(value, (_, part) => (typeof part === "bigint" ? `${part}n` : part));
}

/// The first answer of `probe` that is neither false nor empty. Waiting is for what can be seen, and ends with
/// an error that says what was waited for.
export async function until(what, probe, seconds = 60) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const answer = await probe();
    if (answer) return answer;
    check(Date.now() < deadline, `waited ${seconds} s in vain for ${what}`);
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

/// `promise`, which must end in time.
export async function within(what, promise, seconds = 60) {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`waited ${seconds} s in vain for ${what}`)), seconds * 1000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
