"""Tasks of the kind `test`: code is right and its test is not.

A test that was mended holds for right code, however that is written, and fails for each wrong one.
The student sees neither the wrong ones nor the other right one.
"""

from engine.agent.task import mutants, task

LEAP = '''
    """The calendar's years."""


    def is_leap(year):
        return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    '''
RULE = "return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)"
YEARS = task(
    "test-years",
    """years.py is right: a year is a leap year if 4 divides it, but of the hundreds only those that
    400 divides. test_years.py is wrong and fails. Mend the test, not the code. It has to hold for
    the years 1900, 2000, 2023 and 2024, so that code which is wrong for one of them fails.""",
    {
        "years.py": LEAP,
        "test_years.py": """
            import unittest

            from years import is_leap


            class Leap(unittest.TestCase):
                def test_hundreds(self):
                    self.assertTrue(is_leap(1900))

                def test_other_years(self):
                    self.assertTrue(is_leap(2024))
            """,
    },
    *mutants(
        "test_years",
        "years.py",
        right=(
            LEAP,
            """
            import calendar

            def is_leap(year):
                return calendar.isleap(year)
            """,
        ),
        wrong=(
            LEAP.replace(RULE, "return year % 4 == 0"),
            LEAP.replace(RULE, "return year % 4 == 0 and year % 100 != 0"),
            LEAP.replace(RULE, "return year in (1900, 2000, 2024)"),
            LEAP.replace(RULE, "return year in (2000, 2023, 2024)"),
            LEAP.replace(RULE, "return year == 2000"),
        ),
    ),
)
BOUNDS = '''
    """Numbers within bounds."""


    def clamp(number, low, high):
        return max(low, min(number, high))
    '''
RANGE = "return max(low, min(number, high))"
CLAMP = task(
    "test-clamp",
    """bounds.clamp(number, low, high) is right: it gives the number, or the bound that it is
    beyond. test_bounds.py takes its arguments for others and fails. Mend the test, not the code. It
    has to try a number below, one between, and one above the bounds.""",
    {
        "bounds.py": BOUNDS,
        "test_bounds.py": """
            import unittest

            from bounds import clamp


            class Clamp(unittest.TestCase):
                def test_clamp(self):
                    self.assertEqual(clamp(0, 10, 5), 5)
                    self.assertEqual(clamp(0, 10, -3), 0)
                    self.assertEqual(clamp(0, 10, 12), 10)
            """,
    },
    *mutants(
        "test_bounds",
        "bounds.py",
        right=(
            BOUNDS,
            """
            def clamp(number, low, high):
                if number < low:
                    return low
                return high if number > high else number
            """,
        ),
        wrong=(
            BOUNDS.replace(RANGE, "return max(low, number)"),
            BOUNDS.replace(RANGE, "return min(high, number)"),
            BOUNDS.replace(RANGE, "return low if number < high else high"),
            BOUNDS.replace(RANGE, "return max(number, min(low, high))"),
        ),
    ),
)
STACK = '''
    """A stack of values."""


    class Stack:
        def __init__(self):
            self._values = []

        def push(self, value):
            self._values.append(value)

        def peek(self):
            return self._values[-1]

        def pop(self):
            return self._values.pop()

        def __len__(self):
            return len(self._values)
    '''
STACKS = task(
    "test-stack",
    """stack.py is right, but test_stack.py asserts nothing and cannot fail. Write tests into it.
    They have to show that pop gives the last value that was pushed and takes it off, that peek
    gives it and leaves it there, that len counts the values, and that pop of an empty stack is an
    IndexError. Leave stack.py as it is.""",
    {
        "stack.py": STACK,
        "test_stack.py": """
            import unittest

            from stack import Stack


            class Stacks(unittest.TestCase):
                def test_stack(self):
                    stack = Stack()
                    stack.push(1)
                    stack.push(2)
                    stack.peek()
                    stack.pop()
                    len(stack)
            """,
    },
    *mutants(
        "test_stack",
        "stack.py",
        right=(
            STACK,
            """
            class Stack:
                def __init__(self):
                    self.top, self.size = None, 0

                def push(self, value):
                    self.top, self.size = (value, self.top), self.size + 1

                def peek(self):
                    if not self.size:
                        raise IndexError("empty")
                    return self.top[0]

                def pop(self):
                    value = self.peek()
                    self.top, self.size = self.top[1], self.size - 1
                    return value

                def __len__(self):
                    return self.size
            """,
        ),
        wrong=(
            STACK.replace(".pop()", ".pop(0)"),
            STACK.replace("_values.pop()", "_values[-1]"),
            STACK.replace("return self._values[-1]", "return self._values.pop()"),
            STACK.replace("_values[-1]", "_values[0]"),
            STACK.replace("len(self._values)", "1"),
            STACK.replace("self._values.pop()", "self._values.pop() if self._values else None"),
        ),
    ),
)
ROMAN = '''
    """Roman numerals, from 1 to 3999."""

    SIGNS = [
        (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"),
        (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
    ]


    def roman(number):
        if not 1 <= number <= 3999:
            raise ValueError(number)
        made = ""
        for value, sign in SIGNS:
            made += sign * (number // value)
            number %= value
        return made
    '''
ROMANS = task(
    "test-roman",
    """roman.py is right and test_roman.py fails: some of its numerals are wrong. Mend them in the
    test, not the code, and add a test that 0 is a ValueError. Keep the numbers that are tried.""",
    {
        "roman.py": ROMAN,
        "test_roman.py": """
            import unittest

            from roman import roman


            class Roman(unittest.TestCase):
                def test_numerals(self):
                    expected = {1: "I", 4: "IIII", 9: "VIIII", 14: "XIV", 40: "XL", 90: "LXXXX"}
                    expected |= {400: "CD", 1990: "MXM", 2024: "MMXXIV"}
                    for number, numeral in expected.items():
                        self.assertEqual(roman(number), numeral)
            """,
    },
    *mutants(
        "test_roman",
        "roman.py",
        right=(
            ROMAN,
            """
            def digit(number, one, five, ten):
                nine = {4: one + five, 9: one + ten}
                return nine.get(number) or five * (number // 5) + one * (number % 5)

            def roman(number):
                if number < 1 or number > 3999:
                    raise ValueError("out of range")
                places = [("M", "", ""), ("C", "D", "M"), ("X", "L", "C"), ("I", "V", "X")]
                digits = f"{number:04}"
                return "".join(digit(int(d), *p) for d, p in zip(digits, places))
            """,
        ),
        wrong=(
            ROMAN.replace('(4, "IV"), ', ""),
            ROMAN.replace('(9, "IX"), ', ""),
            ROMAN.replace('(90, "XC"), ', ""),
            ROMAN.replace('(400, "CD"), ', ""),
            ROMAN.replace('(900, "CM"), ', ""),
            ROMAN.replace("if not 1", "if not 0"),
        ),
    ),
)
TASKS = (YEARS, CLAMP, STACKS, ROMANS)
