"""Pictures of how well a model does: plots (matplotlib, imported lazily) and sheets of its mistakes (Pillow)."""
