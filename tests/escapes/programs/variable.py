# Part of two programs: of who starts the one with a grant, and of that one.
def variable(number):
    "The name of a variable that no program with a grant may get; the dangerous ones come first."
    names = ("LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH",
             "PYTHONPATH", "PYTHONHOME", "BASH_ENV", "ENV", "NLSPATH", "MALLOC_CHECK_")
    return names[number % len(names)] + str(number // len(names) or "")
