"""Faults in how a student answers, and in what of the answer counts."""

from dataclasses import replace


def student_gradient_sign(plant):
    """Gradients point away from the teacher."""

    def fault(forward):
        def faulty(self, ids, then):
            made = forward(self, ids, then)
            return made if made.dim() else -made  # a loss, and no logits

        return faulty

    plant("engine.distill.student.Student.forward", fault)


def student_hidden_detached_whole(plant):
    """The student answers, and nothing leads back to it but zeros."""

    def fault(forward):
        return lambda self, ids, then: forward(self, ids, lambda h, w: 0.0 * then(h, w))

    plant("engine.distill.student.Student.forward", fault)


def last_window_alone(plant):
    """Only the last window of a batch is learned from."""

    def fault(loss):
        def faulty(self, hidden, weight, labels, goal):
            ignored = labels.clone()
            ignored[:-1] = -100
            return loss(self, hidden, weight, ignored, goal)

        return faulty

    plant("engine.distill.objective.Dense.loss", fault)


def last_position_alone(plant):
    """Only the last token of a window is learned from."""

    def fault(loss):
        def faulty(self, hidden, weight, labels, goal):
            ignored = labels.clone()
            ignored[:, :-1] = -100
            return loss(self, hidden, weight, ignored, goal)

        return faulty

    plant("engine.distill.objective.Dense.loss", fault)


def student_rope_of_another_base(plant):
    """Positions turn by the usual base, and not by the config's."""

    def fault(forward):
        def faulty(self, ids, then):
            honest, self.config = self.config, replace(self.config, rope_base=1e6)
            try:
                return forward(self, ids, then)
            finally:
                self.config = honest

        return faulty

    plant("engine.distill.student.Student.forward", fault)
