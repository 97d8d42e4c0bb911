// One battle as this tab keeps it: it survives a reload (sessionStorage), and two tabs never share one.

const NAME = "annotate.arena";
const EMPTY = { battle: null, messages: [], prompt: null, answers: [null, null], stopped: [false, false], attempt: 0, keep: null, choice: null, since: null, vote: null, runs: null };

export let battle = { ...EMPTY };

export function load() {
  try {
    battle = { ...EMPTY, ...JSON.parse(sessionStorage.getItem(NAME)) };
  } catch {
    battle = { ...EMPTY }; // a value of another version
  }
}

export function change(values) {
  Object.assign(battle, values);
  try {
    sessionStorage.setItem(NAME, JSON.stringify(battle));
  } catch {
    // closed or full storage: the battle goes on, and a reload begins another one
  }
}

export const begin = (id) => {
  battle = structuredClone(EMPTY);
  change({ battle: id });
};

// All turns up to the question that is being answered, as the server takes them.
export const conversation = () => [...battle.messages, battle.prompt].map(({ role, content }) => ({ role, content }));

export const complete = (sides) => battle.prompt !== null && sides.every((side) => battle.answers[side] !== null);

export const same = () => battle.answers[0].text === battle.answers[1].text;

// The question and the answer that is kept become past turns.
export function goOn(text, keep) {
  const past = battle.prompt === null ? [] : [battle.prompt, { role: "assistant", content: battle.answers[keep].text, formatted: battle.answers[keep].formatted }];
  change({
    messages: [...battle.messages, ...past],
    prompt: { role: "user", content: text },
    answers: [null, null],
    stopped: [false, false],
    keep: null,
    choice: null,
    since: null,
  });
}

export const draft = {
  get: () => sessionStorage.getItem(`${NAME}.draft`) || "",
  set: (text) => sessionStorage.setItem(`${NAME}.draft`, text),
};
