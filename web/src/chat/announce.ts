// What screen readers are told when an answer has ended: all of it once, instead of its pieces.
import { explain } from "../api/problem";
import { plainText } from "../markdown/plain-text";
import { type Message, visibleBody } from "./message";

/** Characters of an answer that are announced: longer ones are read on the page, at the reader's own pace. */
const READ_ALOUD = 4000;

export function wordsAtTheEnd(answer: Message): string {
  const whole = visibleBody(answer).text;
  const text =
    plainText(whole.slice(0, READ_ALOUD)) + (whole.length > READ_ALOUD ? "… The whole answer is on the page." : "");
  switch (answer.state) {
    case "cancelled":
      return `Stopped. ${text}`;
    case "failed":
      return `${text} ${answer.problem ? explain(answer.problem).text : ""}`;
    case "interrupted":
      return `The answer was cut off. ${text}`;
    case "limited":
      return `${text} The answer was cut off at the model's length limit.`;
    default:
      return `Parley: ${text}`;
  }
}
