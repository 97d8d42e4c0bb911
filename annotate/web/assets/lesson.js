// Training: after the answer to a pair whose right answer is known, that answer and why it is right.

import { $ } from "./root.js";
import { t } from "./words.js";

// What a card says before it is answered: that it is training, and how far one is.
export function announce({ lesson }) {
  $("training").hidden = !lesson;
  $("training").textContent = lesson ? t("training", lesson) : "";
}

// Resolves once it has been read. The pair stays where it is, so that one can look at it again.
export function teach({ lesson }, { choice, strength }) {
  const same = choice === "compared" && Math.sign(strength) === Math.sign(lesson.strength);
  const yours = choice === "compared" ? t(`full.${strength}`) : t(`said.${choice}`);
  $("lesson-right").textContent = t("training.right", { right: t(`full.${lesson.strength}`) });
  $("lesson-yours").textContent = same ? t("training.same") : t("training.yours", { yours });
  $("lesson-why").textContent = lesson.why;
  $("lesson").classList.toggle("same", same);
  setOpen(true);
  $("lesson-next").focus({ preventScroll: true });
  return new Promise((resolve) => {
    $("lesson-next").onclick = () => {
      setOpen(false);
      resolve();
    };
  });
}

function setOpen(open) {
  $("lesson").hidden = !open;
  $("choices").classList.toggle("taught", open);
}
