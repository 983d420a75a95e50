"""From a trained model to exported files, and the proof that they answer as it does: the room that sees both sides."""
