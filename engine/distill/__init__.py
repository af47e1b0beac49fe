"""Knowledge distillation: a student learns a teacher's distribution over the next token."""
