/** Answers many questions with one pass. */
import { Lane } from './lane.ts';

/**
 * Each pass answers all questions that were asked before it began. The next pass answers later questions, because this
 * one may already be past their objects. A pass that rejects rejects for all of its questions.
 */
export class Rounds<Question, Answer> {
  readonly #lane = new Lane();
  readonly #pass: (questions: readonly Question[]) => Promise<readonly Answer[]>;
  #next: { readonly questions: Question[]; readonly answers: Promise<readonly Answer[]> } | undefined;

  /** `pass` gives the answers in the order of the questions. */
  constructor(pass: (questions: readonly Question[]) => Promise<readonly Answer[]>) {
    this.#pass = pass;
  }

  async ask(question: Question): Promise<Answer | undefined> {
    this.#next ??= this.#plan();
    const { questions, answers } = this.#next;
    const at = questions.push(question) - 1;
    return (await answers)[at];
  }

  #plan() {
    const questions: Question[] = [];
    const answers = this.#lane.run(async () => {
      this.#next = undefined;
      return await this.#pass(questions);
    });
    return { questions, answers };
  }
}
