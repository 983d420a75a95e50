"""From a trained model to exported files, and the proof that they answer as it does. The only room that sees both sides."""
