"""Engines that write: transformers, the reference, vLLM and SGLang."""
