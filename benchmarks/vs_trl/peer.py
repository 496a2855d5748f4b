"""The peer's side: TRL's GRPOTrainer (mode grpo), or transformers' generate alone (mode generate). Needs trl, peft and
datasets beside torch and transformers; started by `benchmarks/vs_trl`."""

import os
import tempfile

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import task
import torch
from transformers import Qwen2_5_VLForConditionalGeneration


def generate(args) -> None:
    """Answers to pictures, each row with its own copy of prompt and picture, as trainers ask for them."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(args.model).eval()
    both, known = task.processor(args.model), task.examples(pixels=args.pixels)
    prompt = both.apply_chat_template(task.messages(), add_generation_prompt=True, tokenize=False)
    for step in range(args.steps):
        task.wait_for_turn()
        watch = task.Stopwatch()
        chosen = [known[(step * args.prompts + i) % len(known)] for i in range(args.prompts) for _ in range(args.group)]
        batch = both(text=[prompt] * len(chosen), images=[e["image"] for e in chosen], return_tensors="pt")
        batch.pop("token_type_ids", None)
        model.generate(**batch, do_sample=True, max_new_tokens=args.new_tokens, min_new_tokens=args.new_tokens)
        task.say(**watch.read("sample"))


def grpo(args) -> None:
    """GRPOTrainer, timed from one step's begin to its end."""
    from datasets import Dataset, Features, Image, Value
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    known, on_gpu = task.examples(pixels=args.pixels), torch.cuda.is_available()
    turns = [{"role": "user", "content": task.PROMPT}]
    rows = [{"prompt": turns, "image": e["image"], "lat": e["lat"], "lon": e["lon"]} for e in known]
    kinds = {"role": Value("string"), "content": Value("string")}
    features = Features({"prompt": [kinds], "image": Image(), "lat": Value("float64"), "lon": Value("float64")})
    answers, timed = args.prompts * args.group, {}

    def position_reward(completions, lat, lon, **_):
        texts = [c[0]["content"] if isinstance(c, list) else c for c in completions]
        return [task.reward(text, a, b) for text, a, b in zip(texts, lat, lon, strict=True)]

    trainer = GRPOTrainer(
        model=Qwen2_5_VLForConditionalGeneration.from_pretrained(args.model),
        reward_funcs=position_reward,
        args=GRPOConfig(
            output_dir=tempfile.mkdtemp(), max_steps=args.steps, per_device_train_batch_size=answers,
            gradient_accumulation_steps=1, num_generations=args.group, max_completion_length=args.new_tokens,
            learning_rate=args.lr, beta=0.0, num_iterations=1, bf16=on_gpu,
            use_cpu=not on_gpu, gradient_checkpointing=False,
            logging_steps=1, report_to=[], save_strategy="no", temperature=1.0, seed=args.seed, disable_tqdm=True,
            generation_kwargs={"min_new_tokens": args.new_tokens} if args.fixed_length else None,
        ),
        train_dataset=Dataset.from_list(rows, features=features),
        processing_class=task.processor(args.model),
        peft_config=LoraConfig(
            r=task.RANK, lora_alpha=task.ALPHA, lora_dropout=0.0, bias="none", target_modules=task.LORA
        ),
    )  # fmt: skip

    def clock(owner, name, key):
        run = getattr(owner, name)

        def timing(*a, **k):
            watch = task.Stopwatch()
            try:
                return run(*a, **k)
            finally:
                for part, seconds in watch.read(key).items():
                    timed[part] = timed.get(part, 0.0) + seconds

        setattr(owner, name, timing)

    clock(trainer.model.get_base_model(), "generate", "generate")
    clock(trainer, "_generate_and_score_completions", "sample")

    class Turns(TrainerCallback):
        def on_step_begin(self, *_, **__):
            task.wait_for_turn()
            timed.clear()
            self.watch = task.Stopwatch()

        def on_step_end(self, *_, **__):
            self.row = self.watch.read("step") | timed

        def on_log(self, _, state, __, logs=None, **___):
            if logs and "reward" in logs:
                rest = {"reward": float(logs["reward"]), "length": float(logs["completions/mean_length"])}
                task.say(**self.row, **rest)

    trainer.add_callback(Turns())
    trainer.train()


if __name__ == "__main__":
    given = task.worker_arguments().parse_args()
    torch.set_num_threads(given.threads)
    {"generate": generate, "grpo": grpo}[given.mode](given)
