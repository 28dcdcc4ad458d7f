"""What is the same of every image: for which platform it is, and of when."""

# Whatever the engine itself is: https://docs.docker.com/build/building/multi-platform/
PLATFORM = "linux/amd64"
# The one time that images bear, 2020-01-01: with that of the clock, no two builds would be the
# same. BuildKit takes it as SOURCE_DATE_EPOCH for the configuration and the history; the times of
# files are set by the programs in base/tools.
# https://reproducible-builds.org/docs/source-date-epoch/
EPOCH = 1577836800
