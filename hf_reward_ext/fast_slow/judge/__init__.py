"""What a judge reads and what it answers: prompt, verdicts, confidences, gate, judgments."""
