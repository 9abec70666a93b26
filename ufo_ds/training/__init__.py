"""The run: joins tasks, model, data, surgery and DeepSpeed."""
