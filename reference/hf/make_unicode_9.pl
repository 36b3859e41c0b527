#!/usr/bin/perl
# Writes reference/tokenizer/unicode_9.hpp, the code points that Unicode 9.0 knows:
#
#     perl reference/hf/make_unicode_9.pl > reference/tokenizer/unicode_9.hpp && clang-format -i reference/tokenizer/unicode_9.hpp
#
# From Perl's own copy of DerivedAge.txt. An assigned code point is never taken back, so any Perl
# whose Unicode is 9.0 or later writes the same file.
use strict;
use warnings;
use Unicode::UCD qw(prop_invlist);

my @boundaries = prop_invlist("Present_In=9.0");
my $count = @boundaries;
my $list = join ", ", map { sprintf "0x%X", $_ } @boundaries;
print <<"END";
#pragma once

#include <array>

// Written by reference/hf/make_unicode_9.pl.

namespace olmoe {

/// Where the ranges of code points that Unicode 9.0 assigns begin and, in turn, end: those of
/// [boundaries[0], boundaries[1]) are assigned, those of [boundaries[1], boundaries[2]) are not.
constexpr std::array<char32_t, $count> unicode_9_boundaries = {$list};

}  // namespace olmoe
END
