"""Planted faults in page and comment that contracts/tollens-report-v1.yaml must notice."""

from dataclasses import replace

from markupsafe import Markup

from tollens.errors import TollensError


def report_escape_removed(plant):
    """The template puts texts into the page as they are."""
    plant(
        "tollens.page.Environment",
        lambda environment: lambda **options: environment(**{**options, "autoescape": False}),
    )


def report_attachment_as_markup(plant):
    """The text of an attachment is trusted."""

    def fault(embed):
        def faulty(files, room):
            found = embed(files, room)
            return {
                sha: replace(each, text=Markup(each.text)) if each.text else each
                for sha, each in found.items()
            }

        return faulty

    plant("tollens.attachments.embed", fault)


def report_margin_sign_turned(plant):
    """A margin is how much is missing, not how much is left."""
    plant("tollens.page.signed", lambda signed: lambda margin: signed(-margin))


def report_stale_shown_as_fresh(plant):
    """Nothing says that evidence is stale."""
    plant("tollens.review.why_stale", lambda why_stale: lambda *args: "")


def report_scale_turned(plant):
    """The mark of a value stands on the other side of its bound."""

    def fault(scale):
        def faulty(*args):
            found = scale(*args)
            return found and replace(found, at=found.start - 3 if found.start else found.stop + 3)

        return faulty

    plant("tollens.scale.scale", fault)


def report_blocker_gone_untold(plant):
    """A need that is met by now is not noticed."""
    plant("tollens.inspection.Inspection.blocker_gone", lambda gone: lambda *args: False)


def report_best_first(plant):
    """The best contract comes first."""

    def fault(review):
        def faulty(*args, **kwargs):
            found = review(*args, **kwargs)
            return replace(found, contracts=found.contracts[::-1])

        return faulty

    plant("tollens.review.review", fault)


def report_status_of_the_record(plant):
    """A contract has the status that its history ends with, though the evidence is stale."""

    def recorded(view):
        entries = view.loaded.contract.status_history
        return replace(view, status=entries[-1].to) if entries else view

    def fault(page):
        def faulty(template, told, *rest):
            contracts = tuple(map(recorded, told["review"].contracts))
            told = {**told, "review": replace(told["review"], contracts=contracts)}
            return page(template, told, *rest)

        return faulty

    plant("tollens.page._page", fault)


def report_rule_left_out(plant):
    """A falsifier is told without its rule."""

    def fault(cut):
        return lambda text, longest: "" if text.startswith("the rule of") else cut(text, longest)

    plant("tollens.page.cut", fault)


def report_survivor_in_green(plant):
    """A saboteur that survived has its mark, and the colour of one that was killed."""

    def fault(word_class):
        return lambda word: "ok" if word == "survived" else word_class(word)

    plant("tollens.page.word_class", fault)


def report_cells_uncoloured(plant):
    """The cells of the kill matrix have classes, and no colour."""

    def fault(stylesheet):
        return lambda: stylesheet().replace("background:var(--b,transparent);", "")

    plant("tollens.page.stylesheet", fault)


def report_reproduce_lines_left_out(plant):
    """A large page tells all of the worst falsifiers, and of the others only that they are."""

    def fault(teller):
        return lambda review, detail: teller(review, replace(detail, whole=200))

    plant("tollens.page._teller", fault)


def report_timeline_reversed(plant):
    """The history runs backwards."""

    def fault(contract):
        def faulty(inspection, loaded, past):
            entries = loaded.contract.status_history[::-1]
            turned = loaded.contract.model_copy(update={"status_history": entries})
            found = contract(inspection, loaded, past)
            return replace(found, loaded=replace(loaded, contract=turned))

        return faulty

    plant("tollens.review._contract", fault)


def report_stale_unfiltered(plant):
    """What is stale cannot be filtered."""
    plant("tollens.page.classes", lambda classes: lambda f: classes(f).replace(" stale", ""))


def report_survivor_shown_killed(plant):
    """A saboteur that survived is drawn as killed."""

    def fault(cells):
        return lambda outcomes: cells([each and "killed" for each in outcomes])

    plant("tollens.kill_matrix._cells", fault)


def report_plots_upside_down(plant):
    """A value that rose is drawn falling."""

    def fault(trend):
        def faulty(points):
            return [(x, 100 - y, held) for x, y, held in trend(points) or ()]

        return faulty

    plant("tollens.scale.trend", fault)


def report_attachments_regardless(plant):
    """Every attachment is put into the page, whatever room there is."""
    plant("tollens.attachments.embed", lambda embed: lambda files, room: embed(files, 10**12))


def report_cut_in_silence(plant):
    """The page does not say which attachments it left out."""
    plant("tollens.page._left_out", lambda left_out: lambda files, embedded: [])


def report_plots_dropped_in_silence(plant):
    """The page does not say that it has no plots."""

    def fault(page):
        def faulty(template, told, detail, embedded):
            kept = tuple(each for each in detail.omitted if "plots" not in each)
            return page(template, told, replace(detail, omitted=kept), embedded)

        return faulty

    plant("tollens.page._page", fault)


def _without(plant, target, leave_out):
    def fault(lines):
        return lambda *args: [each for each in lines(*args) if not leave_out(each)]

    plant(target, fault)


def comment_loosened_not_loud(plant):
    """A loosened bound is told as any other change."""

    def quiet(bar):
        def faulty(old, new):
            for bump, line in bar(old, new):
                yield (type(bump).MINOR if "loosened" in line.text else bump), line

        return faulty

    plant("tollens.since._bar", quiet)


def comment_removed_saboteur_unlisted(plant):
    """That a saboteur need not be killed any more is left out."""
    _without(plant, "tollens.since._bar", lambda each: "need not be killed" in each[1].text)


def comment_version_too_low_untold(plant):
    """A version that does not say how much less is promised is accepted."""
    _without(plant, "tollens.since._bar", lambda each: each[1].word == "version too low")


def comment_stale_untold(plant):
    """Stale evidence is not told."""
    _without(plant, "tollens.since._alarms", lambda each: each.word.startswith("stale"))


def comment_shuffled(plant):
    """Each part of the comment has the line last that should be first."""
    plant(
        "tollens.since.Section",
        lambda section: lambda title, lines: section(title, (*lines[1:], *lines[:1])),
    )


def comment_alarms_by_name(plant):
    """What is loud comes by its name, and not by its weight."""

    def fault(alarms):
        return lambda review: sorted(alarms(review), key=lambda line: line.about)

    plant("tollens.since._alarms", fault)


def comment_base_ignored(plant):
    """It compares with the last commit, whatever is asked for."""
    plant("tollens.revisions.fork", lambda fork: lambda root, name: fork(root, "HEAD"))


def comment_text_as_markup(plant):
    """Texts stand in the comment as they are."""
    plant("tollens.comment._code", lambda code: lambda text: " ".join(text.split()))


def comment_cut_in_silence(plant):
    """What does not fit is left out without a word."""
    plant("tollens.comment._cut", lambda cut: lambda missing: "")


def comment_not_cut(plant):
    """Whatever there is to say is said, though nobody takes so long a comment."""

    def fault(comment):
        def faulty(review, since):
            lines = [each for section in since.sections for each in section.lines]
            return comment(review, since) + "".join(f"- {each}\n" for each in lines)

        return faulty

    plant("tollens.comment.comment", fault)


def report_unknown_base_accepted(plant):
    """A base that git does not know is taken for HEAD."""
    plant("tollens.revisions.resolve", lambda resolve: lambda root, name: resolve(root, "HEAD"))


def report_ended_by_altered_evidence(plant):
    """One evidence file that cannot be used, and there is no report."""

    def fault(contract):
        def faulty(inspection, loaded, past):
            inspection.evidence(loaded)
            return contract(inspection, loaded, past)

        return faulty

    plant("tollens.review._contract", fault)


def report_too_wide_for_a_phone(plant):
    """Long words make the page wider than the window."""

    def fault(stylesheet):
        return lambda: stylesheet().replace("overflow-wrap:anywhere", "white-space:nowrap")

    plant("tollens.page.stylesheet", fault)


def report_faint_text(plant):
    """What is said beside the main thing can hardly be read."""
    plant("tollens.page.stylesheet", lambda css: lambda: css().replace("#59606a", "#a9b0ba"))


def comment_takes_others_for_removed(plant):
    """A contract that was not asked for is told as removed."""
    plant("tollens.sides._asked_for", lambda asked_for: lambda *args: True)


def comment_takes_any_yaml_for_a_contract(plant):
    """Whatever is YAML was a contract, wherever it lay."""

    def fault(files):
        def faulty(project, commit, folder, pattern):
            if folder == project.contracts:
                yield from files(project, commit, project.evidence, pattern)
            yield from files(project, commit, folder, pattern)

        return faulty

    plant("tollens.sides._files", fault)


def comment_takes_prose_for_a_contract(plant):
    """A contract in another dialect is read as one of ours that is broken."""
    plant("tollens.dialect.is_foreign", lambda _: lambda data: False)


def report_attachments_charged_once(plant):
    """What several falsifiers show takes room only once."""

    def fault(kept):
        def faulty(*args):
            return {key: replace(each, uses=1) for key, each in kept(*args).items()}

        return faulty

    plant("tollens.attachments.kept", fault)


def report_contracts_dropped_in_silence(plant):
    """The page does not say that it has some of the contracts only."""

    def fault(details):
        def faulty(contracts):
            for each in details(contracts):
                kept = tuple(word for word in each.omitted if "contracts but" not in word)
                yield replace(each, omitted=kept)

        return faulty

    plant("tollens.page._details", fault)


def report_alarms_dropped_in_silence(plant):
    """The page does not say how much that needs attention it does not list."""

    def fault(grouped):
        return lambda lines: grouped(lines)[:200]

    plant("tollens.since.grouped", fault)


def report_too_large_and_returned(plant):
    """Where nothing fits, a page is returned that is too large."""

    def fault(render):
        def faulty(project, review, since, limit=2_000_000):
            try:
                return render(project, review, since, limit)
            except TollensError:
                return render(project, review, since)

        return faulty

    plant("tollens.page.render", fault)
