# The floors of the house, what the #include lines say of them, and a picture.
#
#   cmake -P docs/floors.cmake          draws docs/floors.svg
#
# tests/layout includes this file and checks what it says. A floor is a name, what it holds, and
# where its files are. Floors are given from the top: a file includes only files of its own floor
# and of those below.

cmake_minimum_required(VERSION 3.25)

set(reference_floors
  "cli|the olmoe program, a file a subcommand|cli/"
  "sweep|plan, run, resume and report many configurations|sweep/"
  "measure|numbers about one policy|measure/"
  "c_api|beside the floors: the C interface|c_api/"
  "routing|from policy strings and null files to a router a layer|routing/"
  "forward|the model: begin with plain_forward|forward/"
  "kernels|the arithmetic per instruction set|kernels/"
  "tokenizer|text to ids|tokenizer/"
  "terminal|what a person sees while it runs|terminal/"
  "formats|bytes on disk, nothing of OLMoE|formats/")

set(library_floors
  "whole|all of it in one header, or compiled once|fdroute.hpp compile_once.hpp"
  "strings|policies as text|parse.hpp parse_rule.hpp parse_completion.hpp policy_settings.hpp detail/policy_string/"
  "engines|what stands around a router|any_router.hpp presets.hpp model_table.hpp model_router.hpp router_spec.hpp token_table.hpp rows.hpp residency.hpp dispatch.hpp dispatch_limits.hpp detail/dispatch/ formats.hpp summary.hpp multiple_testing.hpp eigen.hpp eigen_testing.hpp eigen_threads.hpp detail/eigen/ openmp.hpp c_api.h"
  "router|from logits to experts|router.hpp"
  "detail/block|many tokens, by kernels|detail/block/"
  "policies|rules, nulls, scores, weights, rankings|selection/ null/ score/ weights/ ranking/"
  "detail/row|one token, as defined|detail/row/"
  "detail/checks|what a policy must be|detail/checks/"
  "detail/rule|what rules share|detail/rule/"
  "detail/simd|lanes, and all intrinsics|detail/simd/"
  "detail/number|numbers and their order|detail/number/"
  "vocabulary|concepts, views, bounds|concepts.hpp views.hpp output/ completion.hpp execution.hpp bounds.hpp ties.hpp limits.hpp errors.hpp arch.hpp version.hpp null/none.hpp detail/number/require_ieee.hpp detail/number/to_text.hpp")

if(NOT DEFINED fdroute_root)
  cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH fdroute_root)
endif()

# Reads one house: fdroute_read_house(<prefix> <root> <floors>). Sets
#   <prefix>_floors          the ids of its floors, from the top: <prefix>0, <prefix>1 ...
#   name_<id>, is_<id>       what the table says of a floor
#   files_<id>               its files, by their paths from the root
#   floor_<file>             the id of a file's floor
#   includes_<file>          what a file includes; of the library without "fdroute/"
#   homeless                 files that have no floor
macro(fdroute_read_house prefix root floors)
  set(${prefix}_floors "")
  set(index 0)
  foreach(floor IN LISTS ${floors})
    string(REPLACE "|" ";" floor "${floor}")
    list(GET floor 0 name_${prefix}${index})
    list(GET floor 1 is_${prefix}${index})
    list(GET floor 2 places)
    string(REPLACE " " ";" places_${prefix}${index} "${places}")
    set(files_${prefix}${index} "")
    list(APPEND ${prefix}_floors ${prefix}${index})
    math(EXPR index "${index} + 1")
  endforeach()

  file(GLOB_RECURSE sources RELATIVE ${root} ${root}/*.hpp ${root}/*.h ${root}/*.cpp ${root}/*.inc)
  list(SORT sources)
  foreach(file IN LISTS sources)
    cmake_path(GET file PARENT_PATH folder)
    set(home "")
    foreach(id IN LISTS ${prefix}_floors)
      if(file IN_LIST places_${id})  # a file by its name goes before its folder
        set(home ${id})
        break()
      elseif("${folder}/" IN_LIST places_${id})
        set(home ${id})
      endif()
    endforeach()
    if(home STREQUAL "")
      list(APPEND homeless ${root}/${file})
      continue()
    endif()
    list(APPEND files_${home} ${file})
    set(floor_${file} ${home})
    set(includes_${file} "")
    file(STRINGS ${root}/${file} lines REGEX "^[ \t]*#[ \t]*include[ \t]*[<\"]")
    foreach(line IN LISTS lines)
      string(REGEX REPLACE "^[^<\"]*[<\"]([^>\"]*).*" "\\1" included "${line}")
      string(REGEX REPLACE "^fdroute/" "" included "${included}")
      list(APPEND includes_${file} ${included})
    endforeach()
  endforeach()
endmacro()

macro(fdroute_read_houses)
  set(homeless "")
  fdroute_read_house(R ${fdroute_root}/reference reference_floors)
  fdroute_read_house(L ${fdroute_root}/include/fdroute library_floors)
  set(all_floors ${R_floors} ${L_floors})

  # below_<id>: the floors that a floor's files include from, itself apart.
  foreach(id IN LISTS all_floors)
    set(below_${id} "")
    foreach(file IN LISTS files_${id})
      foreach(included IN LISTS includes_${file})
        if(DEFINED floor_${included} AND NOT "${floor_${included}}" STREQUAL "${id}")
          list(APPEND below_${id} ${floor_${included}})
        endif()
      endforeach()
    endforeach()
    list(REMOVE_DUPLICATES below_${id})
  endforeach()
endmacro()

# ---- The picture ---------------------------------------------------------------------------------

set(svg_width 1180)
set(svg_column 440)
set(svg_R_x 70)
set(svg_L_x 650)

# Draws the floors of one house, each as high as the names of its files need, into `svg`; leaves
# top_<id>, middle_<id> and bottom_<id>.
macro(fdroute_draw_floors prefix title)
  set(y 36)
  math(EXPR x "${svg_${prefix}_x} + ${svg_column} / 2")
  string(APPEND svg "<text x=\"${x}\" y=\"24\" class=\"title\">${title}</text>\n")
  foreach(id IN LISTS ${prefix}_floors)
    if(files_${id} STREQUAL "")
      continue()
    endif()
    set(names "")
    foreach(file IN LISTS files_${id})
      cmake_path(GET file STEM stem)
      list(APPEND names ${stem})
    endforeach()
    list(REMOVE_DUPLICATES names)
    set(rows "")
    set(row "")
    foreach(name IN LISTS names)
      string(LENGTH "${row} ${name}" length)
      if(length GREATER 68)
        list(APPEND rows "${row}")
        set(row "")
      endif()
      string(APPEND row " ${name}")
    endforeach()
    list(APPEND rows "${row}")
    list(LENGTH rows n_rows)
    math(EXPR height "30 + 14 * ${n_rows}")
    math(EXPR top_${id} "${y}")
    math(EXPR bottom_${id} "${y} + ${height}")
    math(EXPR middle_${id} "${y} + ${height} / 2")
    math(EXPR text_x "${svg_${prefix}_x} + 10")
    math(EXPR text_y "${y} + 18")
    string(APPEND svg "<rect x=\"${svg_${prefix}_x}\" y=\"${y}\" width=\"${svg_column}\" height=\"${height}\" class=\"${prefix}\"/>\n"
      "<text x=\"${text_x}\" y=\"${text_y}\"><tspan class=\"name\">${name_${id}}</tspan>  ${is_${id}}</text>\n")
    foreach(row IN LISTS rows)
      math(EXPR text_y "${text_y} + 14")
      string(STRIP "${row}" row)
      string(APPEND svg "<text x=\"${text_x}\" y=\"${text_y}\" class=\"files\">${row}</text>\n")
    endforeach()
    math(EXPR y "${y} + ${height} + 22")
  endforeach()
  if(y GREATER svg_height)
    set(svg_height ${y})
  endif()
endmacro()

# Whether `to` can be reached from `from` over one floor or more in between.
function(fdroute_implied from to result)
  set(${result} FALSE PARENT_SCOPE)
  set(reached ${below_${from}})
  list(REMOVE_ITEM reached ${to})
  while(reached)
    list(POP_FRONT reached id)
    if(to IN_LIST below_${id})
      set(${result} TRUE PARENT_SCOPE)
      return()
    endif()
    foreach(next IN LISTS below_${id})
      if(NOT next IN_LIST seen)
        list(APPEND seen ${next})
        list(APPEND reached ${next})
      endif()
    endforeach()
  endwhile()
endfunction()

# The picture as text, for fdroute_read_houses()'s floors.
function(fdroute_draw result)
  set(svg "")
  set(svg_height 0)
  fdroute_draw_floors(R "reference/")
  fdroute_draw_floors(L "include/fdroute/")
  foreach(from IN LISTS all_floors)
    list(FIND all_floors ${from} from_at)
    foreach(to IN LISTS all_floors)
      if(NOT to IN_LIST below_${from})
        continue()
      endif()
      fdroute_implied(${from} ${to} implied)
      if(implied)
        continue()
      endif()
      list(FIND all_floors ${to} to_at)
      math(EXPR distance "${to_at} - ${from_at}")
      string(SUBSTRING ${from} 0 1 from_house)
      string(SUBSTRING ${to} 0 1 to_house)
      if(NOT from_house STREQUAL to_house)
        math(EXPR x1 "${svg_R_x} + ${svg_column}")
        math(EXPR bend1 "${x1} + 60")
        math(EXPR bend2 "${svg_L_x} - 60")
        set(path "M${x1} ${middle_${from}} C${bend1} ${middle_${from}} ${bend2} ${middle_${to}} ${svg_L_x} ${middle_${to}}")
      elseif(distance EQUAL 1)
        math(EXPR x1 "${svg_${from_house}_x} + ${svg_column} / 2")
        set(path "M${x1} ${bottom_${from}} L${x1} ${top_${to}}")
      else()
        # Around the floors between, on the outer side.
        if(from_house STREQUAL "R")
          set(x1 ${svg_R_x})
          math(EXPR bend "${x1} - 20 - 9 * ${distance}")
        else()
          math(EXPR x1 "${svg_L_x} + ${svg_column}")
          math(EXPR bend "${x1} + 20 + 9 * ${distance}")
        endif()
        math(EXPR y1 "${middle_${from}} + 6")
        math(EXPR y2 "${middle_${to}} - 6")
        set(path "M${x1} ${y1} C${bend} ${y1} ${bend} ${y2} ${x1} ${y2}")
      endif()
      string(APPEND svg "<path d=\"${path}\" marker-end=\"url(#head)\"/>\n")
    endforeach()
  endforeach()
  math(EXPR svg_height "${svg_height} + 10")
  math(EXPR caption_y "${svg_height} - 12")
  set(${result} "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ${svg_width} ${svg_height}\" font-family=\"sans-serif\" font-size=\"12\">
<!-- Drawn from the #include lines by docs/floors.cmake. -->
<style>
rect { fill: #eef3f8; stroke: #5b7a99; } rect.L { fill: #f6f1e4; stroke: #a08a4c; }
path { fill: none; stroke: #666; } text { fill: #222; }
.title { font-size: 14px; font-weight: bold; text-anchor: middle; } .name { font-weight: bold; font-size: 13px; }
.files { font-family: monospace; font-size: 10px; fill: #555; }
</style>
<defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0 L8 4 L0 8 z\" style=\"fill:#666\"/></marker></defs>
<rect x=\"0\" y=\"0\" width=\"${svg_width}\" height=\"${svg_height}\" style=\"fill:#fff;stroke:none\"/>
${svg}<text x=\"${svg_R_x}\" y=\"${caption_y}\">An arrow: includes. Arrows that follow from others are left out.</text>
</svg>
" PARENT_SCOPE)
endfunction()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  fdroute_read_houses()
  fdroute_draw(picture)
  file(WRITE ${CMAKE_CURRENT_LIST_DIR}/floors.svg "${picture}")
endif()
