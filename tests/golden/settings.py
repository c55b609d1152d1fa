"""Every setting of every training, said in full: no default of the package may decide anything here."""

GENERATION = {
    "max_new_tokens": 6, "temperature": 0.0, "top_k": None, "top_p": 1.0, "seed": 0, "batch_size": 64, "kv_gib": 1.0,
}  # fmt: skip
LORA = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "top_layers": None}
LATENT = {
    "steps": 0, "feedback": "state", "answer": "last", "trained": True, "step_weights": (), "sharpening": 1.0,
    "repulsion": 0.0, "alone_steps": 0,
}  # fmt: skip
FIT = {
    "steps": 8, "learning_rate": 5e-3, "warmup_steps": 2, "schedule": "linear", "weight_decay": 0.01, "grad_clip": 1.0,
    "validate_every": 4, "keep": "last", "patience": None, "checkpoint_every": 4, "max_minutes": None,
    "max_cpu_minutes": None,
    "seed": 0,
}  # fmt: skip
ADAPTER_FIT = {**FIT, "head_learning_rate": 1e-2, "validation_samples": 12}

# --- R2ec ------------------------------------------------------------------------------------------------------------

R2EC = {
    "backbone": "tiny",
    "dtype": "float32",
    "lora": LORA,
    "prompt": {
        "noun": "thing", "opening": "A person chose these {noun}s, oldest first:\n", "line": "{title}",
        "history_window": 20, "title_tokens": 24, "history_tokens": 640, "item_fields": ("title",), "item_tokens": 128,
        "closing": "\n", "question": "In one sentence, what does this person like in a {noun}?", "item_opening": "",
        "item_in_chat": False,
        "marks": (), "history_step": 1,
    },
    "head": {"temperature": 0.05, "learn_temperature": True, "centred": True, "item_bias": True, "residual": True,
             "shared_bias": False},
    "latent": LATENT,
    "thought": GENERATION,
    "thinker": "trained",
    "writer_prompt": None,
    "reading": "text",
    "learnt_thoughts": False,
    "search": {"index": "exact", "lists": None, "probes": 32, "links": 32, "effort": 128},
}  # fmt: skip
PAPER_HEAD = {
    "temperature": 0.05, "learn_temperature": False, "centred": False, "item_bias": False, "residual": False,
    "shared_bias": False,
}  # fmt: skip
CONTRASTIVE = {
    **ADAPTER_FIT, "refresh_every": 3, "supervision": "every_prefix", "negatives": "catalogue", "live_items": 0,
    "item_dropout": 0.0, "hidden_share": 0.0, "train_in_file_order": False, "stretch": 6, "batch_size": 3,
    "accumulate": 1, "sharding": "none", "thought_share": 0.0,
    "thought_readings": 30, "after_thought_share": 0.5, "thought_source": "rules", "distil_weight": 0.0,
    "thought_forms": ("recent", "taste", "shift", "era", "links"),
    "thought_weight": 0.5,
}  # fmt: skip
CONTRASTIVES = {
    "plain": (R2EC, {**CONTRASTIVE, "keep": "best"}),
    "thoughts": (
        R2EC, {**CONTRASTIVE, "thought_share": 0.6, "live_items": 3, "accumulate": 2, "batch_size": 2, "seed": 1},
    ),
    "in-batch": (R2EC, {**CONTRASTIVE, "negatives": "in_batch"}),
    "last-dropout": (
        {**R2EC, "lora": {**LORA, "dropout": 0.2, "top_layers": 1}, "head": PAPER_HEAD},
        {
            **CONTRASTIVE, "supervision": "last", "accumulate": 2, "schedule": "constant", "refresh_every": 100,
            "validate_every": 3, "patience": 1,
        },
    ),
}  # fmt: skip
RECPO = {
    **ADAPTER_FIT, "steps": 6, "validate_every": 3, "checkpoint_every": 3, "refresh_every": 4, "users": 3,
    "group_size": 3, "rollout": {**GENERATION, "max_new_tokens": 5, "temperature": 1.5}, "redraw": 0,
    "filter_seen": True, "ndcg_k": 1000, "beta": 0.05, "format_weight": 0.0, "length_weight": 0.0, "free_tokens": 0,
    "fused_weight": 1.0, "gain_weight": 0.0, "gain_limit": 5.0, "marginal_weight": 0.0, "targets": 1,
    "diversity_weight": 0.0, "advantages": "grpo", "advantage_epsilon": 1e-4, "credit": "own", "updates": 1,
    "batch_tokens": 2048, "normalisation": "sequence", "ratio_level": "token", "clip_low": 0.2, "clip_high": 0.2,
    "importance_weights": False, "weight_cap": 2.0, "kl_coefficient": 0.0, "entropy_coefficient": 0.0,
    "behind": 0,
    "token_weight": 1.0, "token_balance": 0.0, "measure_every": 4, "item_weight": 1.0, "item_floor": 0.0,
    "item_marginal": 0.0, "gate": None, "knowledge_samples": 0,
    "line_weight": 0.0, "candidates": "in_batch",
    "memory": 0, "live_items": 0, "selection": "best", "selection_k": 1, "selection_floor": 0.0, "refresh_rows": 0,
}  # fmt: skip
RECPOS = {
    "memory": (
        R2EC,
        {
            **RECPO, "kl_coefficient": 0.1, "candidates": "memory", "memory": 7, "refresh_rows": 3, "line_weight": 0.3,
            "updates": 2, "redraw": 1, "format_weight": 0.1, "length_weight": 0.1, "free_tokens": 2,
            "diversity_weight": 0.1, "batch_tokens": 200, "keep": "best",
        },
    ),
    "catalogue": (
        R2EC,
        {
            **RECPO, "seed": 5, "candidates": "catalogue", "live_items": 2, "advantages": "rloo",
            "ratio_level": "sequence", "normalisation": "constant", "selection": "positive", "updates": 2,
            "entropy_coefficient": 0.01, "item_floor": 0.4, "importance_weights": True, "ndcg_k": 10, "beta": 0.3,
            "rollout": {**GENERATION, "max_new_tokens": 5, "temperature": 1.2, "top_k": 40, "top_p": 0.95},
            "filter_seen": False,
        },
    ),
    "group-mean": (
        {**R2EC, "thinker": "base"},
        {
            **RECPO, "seed": 7, "credit": "group_mean", "advantages": "centred", "normalisation": "token",
            "selection": "top_k", "selection_k": 2, "kl_coefficient": 0.05,
        },
    ),
    "frozen": (
        {**R2EC, "thinker": "frozen"},
        {**RECPO, "seed": 9, "token_weight": 0.0, "item_floor": 0.2, "selection": "floor", "selection_floor": -0.5},
    ),
}  # fmt: skip

# --- R2Rank ----------------------------------------------------------------------------------------------------------

R2RANK = {
    "backbone": "tiny",
    "dtype": "float32",
    "lora": LORA,
    "prompt": {
        "noun": "thing", "opening": "A person chose these {noun}s, oldest first:\n", "line": "{title}",
        "history_window": 10, "title_tokens": 24, "history_tokens": 640,
        "item_fields": ("title", "popularity", "year", "categories", "brand"), "item_tokens": 128, "closing": "\n",
        "question": "\nWould this person choose this {noun} next?\n",
        "cue": "\nIn one sentence, what speaks for it or against it?", "plain_cue": "\nAnswer yes or no.",
        "evidence": False, "evidence_tokens": 64,
    },
    "thinks": True,
    "thought": GENERATION,
    "readout": "head",
    "head": {"kind": "linear", "width": 8, "pool": "last", "reads": "answer"},
    "latent": LATENT,
    "prefix_tokens": 65536,
}  # fmt: skip
PLAIN_R2RANK = {**R2RANK, "thinks": False}
MLP_R2RANK = {**R2RANK, "head": {"kind": "mlp", "width": 8, "pool": "mean", "reads": "answer"}, "prefix_tokens": 0}
YES_NO_R2RANK = {**PLAIN_R2RANK, "readout": "yes_no"}
SETS = {"samples": 4, "subset_seed": 0, "size": 4, "negatives": "uniform", "seed": 0}
COLD_START = {
    **ADAPTER_FIT, "head_learning_rate": 3e-2, "users": 3, "negatives": 3, "batch_tokens": 2048, "loss": "list",
    "thought_weight": 0.5, "prompt_steps": 0,
}  # fmt: skip
COLD_STARTS = {
    "traces": (R2RANK, {**COLD_START, "keep": "best"}),
    "traces-mlp": (MLP_R2RANK, {**COLD_START, "loss": "pointwise", "batch_tokens": 300, "seed": 2}),
    "plain": (PLAIN_R2RANK, COLD_START),
    "yes-no": (YES_NO_R2RANK, {**COLD_START, "loss": "pointwise", "seed": 3}),
}
REINFORCE = {
    **ADAPTER_FIT, "steps": 6, "validate_every": 3, "checkpoint_every": 3, "users": 2, "negatives": 3,
    "batch_tokens": 2048, "group_size": 3, "rollout": {**GENERATION, "max_new_tokens": 5, "temperature": 1.0},
    "reward": "ndcg", "reward_k": None, "temperature": 1.0, "credit": "plgrad", "estimator": "exact",
    "num_permutations": 8, "advantage_clip": 5.0, "updates": 1, "clip": 0.2, "normalisation": "sequence",
    "kl_coefficient": 0.01, "token_weight": 1.0, "score_weight": 1.0, "score_loss": "reward", "joint": True,
}  # fmt: skip
REINFORCES = {
    "thinking": (R2RANK, {**REINFORCE, "updates": 2, "keep": "best"}),
    "rank-return": (
        MLP_R2RANK,
        {
            **REINFORCE, "seed": 4, "credit": "rank_return", "estimator": "pl_rank", "reward_k": 2, "joint": False,
            "normalisation": "constant", "temperature": 0.7,
        },
    ),
    "counterfactual": (
        R2RANK,
        {
            **REINFORCE, "seed": 6, "credit": "counterfactual", "estimator": "score_function", "kl_coefficient": 0.0,
            "score_loss": "pointwise", "normalisation": "token",
        },
    ),
    "not-thinking": (PLAIN_R2RANK, {**REINFORCE, "group_size": 1}),
}  # fmt: skip

# --- EGLR ------------------------------------------------------------------------------------------------------------

LISTS = {
    "width": 8, "embedding_width": 4, "item_ids": True, "item_rows": None, "min_count": 1, "user_ids": False,
    "positions": True, "leave_out": (), "relative": True, "max_history": 3, "dropout": 0.1,
}  # fmt: skip
EGLR_GRU = {
    "lists": LISTS,
    "generator": {
        "kind": "gru", "width": 8, "encoder_width": 8, "set_blocks": 1, "decoder_blocks": 1, "heads": 2,
        "pointer_width": 4, "dropout": 0.1,
    },
    "reasoning": {
        "mode": "entropy", "max_steps": 2, "threshold": None, "trigger_rate": 0.4, "normalised": False,
        "random_rate": 0.4, "token": "soft_candidates", "detach": False, "predicts_gain": False,
        "step_codes": True, "gate_temperature": 1.0, "think_temperature": 1.5, "choose_temperature": 0.8,
    },
    "evaluator": {
        "kind": "gru", "lists": {**LISTS, "positions": False}, "width": 8, "blocks": 1, "heads": 2, "dropout": 0.1,
        "length": 6,
    },
}  # fmt: skip
EGLR_TRANSFORMER = {
    "lists": {**LISTS, "user_ids": True, "item_rows": 7, "leave_out": ("price",), "relative": False},
    "generator": {**EGLR_GRU["generator"], "kind": "transformer", "decoder_blocks": 2},
    "reasoning": {
        **EGLR_GRU["reasoning"], "mode": "random", "token": "last_state", "random_rate": 0.5, "detach": True,
        "step_codes": False,
    },
    "evaluator": {
        **EGLR_GRU["evaluator"], "kind": "five_channel", "length": 4,
        "lists": {**LISTS, "positions": True, "user_ids": True},
    },
}  # fmt: skip
EGLR_PREFIX = {
    **EGLR_GRU,
    "generator": {**EGLR_GRU["generator"], "kind": "prefix_sum", "set_blocks": 0},
    "reasoning": {**EGLR_GRU["reasoning"], "mode": "entropy", "normalised": True, "threshold": 0.9, "max_steps": 1},
    "evaluator": {**EGLR_GRU["evaluator"], "kind": "transformer", "blocks": 2},
}
LIST_FIT = {**FIT, "steps": 10, "learning_rate": 1e-2, "validate_every": 5, "checkpoint_every": 5, "batch_size": 16,
            "validation_lists": 12, "signal": None}  # fmt: skip
EVALUATOR_FIT = {**LIST_FIT, "keep": "best", "shuffled": 0.0, "slate_length": 6}
WARM_START = {**LIST_FIT, "steps": 12, "learning_rate": 5e-2, "length": 4, "prefix": "own",
              "target": "clicks", "target_temperature": 0.5, "thought_share": 0.0, "step_weight": 0.0,
              "step_margin": 0.0}  # fmt: skip
GRPO = {
    **LIST_FIT, "steps": 8, "learning_rate": 3e-2, "validate_every": 4, "checkpoint_every": 4, "batch_size": 4,
    "length": 4, "group_size": 3,
    "reward": "sum", "advantage": "list", "gamma": 1.0, "advantage_epsilon": 1e-6, "updates": 1, "clip_low": 0.05,
    "clip_high": 0.1, "kl_coefficient": 0.1, "entropy_coefficient": 0.01, "failed_check": "warn",
}  # fmt: skip
EGLRS = {
    "gru": (EGLR_GRU, EVALUATOR_FIT, WARM_START, {**GRPO, "updates": 2}),
    "transformer": (
        EGLR_TRANSFORMER,
        {**EVALUATOR_FIT, "shuffled": 0.3, "slate_length": 4, "seed": 1},
        {**WARM_START, "prefix": "clicked_first", "signal": "like"},
        {**GRPO, "reward": "discounted", "advantage": "position", "gamma": 0.9, "seed": 2},
    ),
    "prefix-sum": (EGLR_PREFIX, EVALUATOR_FIT, WARM_START, {**GRPO, "reward": "mean", "schedule": "constant"}),
}

# --- baselines -------------------------------------------------------------------------------------------------------

SASREC = {
    "model": "sasrec", "width": 16, "blocks": 2, "heads": 2, "norm": "pre", "dropout": 0.1, "max_length": 6,
    "learning_rate": 3e-3, "weight_decay": 0.0, "batch_size": 16, "max_epochs": 6, "patience": 5,
    "validation_samples": 20, "seed": 0, "layers": "transformer", "negatives": None, "train_in_file_order": False,
    "max_minutes": None, "row_updates": False,
}  # fmt: skip
SASRECS = {
    "pre": SASREC,
    "post": {**SASREC, "norm": "post", "max_length": 3, "blocks": 1, "weight_decay": 0.1, "dropout": 0.3, "seed": 1,
             "patience": 2, "max_epochs": 12},
}  # fmt: skip
ITEM_KNN = {"window": 20, "decay": 0.7, "model": "item-knn", "neighbours": 5, "shrinkage": 10.0}
EASE = {"window": 20, "decay": 0.8, "model": "ease", "ridge": 5.0}
POPULARITY = {"model": "popularity", "half_life_days": 3.0}
LIST_TRAINING = {
    "lists": LISTS, "signal": None, "learning_rate": 1e-2, "weight_decay": 1e-2, "clip": 1.0, "batch_size": 16,
    "max_epochs": 6, "patience": 3, "seed": 0,
}  # fmt: skip
LIST_BASELINES = {
    "pointwise": {**LIST_TRAINING, "model": "pointwise", "hidden": 8, "dropout": 0.1},
    "dlcm": {**LIST_TRAINING, "model": "dlcm", "states": 8, "hidden": 2},
    "prm": {**LIST_TRAINING, "model": "prm", "width": 8, "blocks": 2, "heads": 2, "dropout": 0.1},
    "setrank": {**LIST_TRAINING, "model": "setrank", "width": 8, "blocks": 2, "heads": 2, "points": 3, "dropout": 0.1},
    "seq2slate": {**LIST_TRAINING, "model": "seq2slate", "states": 8, "steps": 4},
}
