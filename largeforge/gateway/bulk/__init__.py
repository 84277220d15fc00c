"""Bulk inference as OpenAI's clients know it: files of requests (`/v1/files`) answered as batches (`/v1/batches`)."""
