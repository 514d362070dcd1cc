# Compiler flags, warnings, sanitizers, ccache and the linker: one place for all targets.

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${CCACHE_PROGRAM})
endif()
find_program(MOLD_PROGRAM mold)
if(MOLD_PROGRAM)
  add_link_options(-fuse-ld=mold)
endif()

# RelWithDebInfo is what is shipped: full optimisation, line tables only (backtraces, profiles).
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1")

# The warnings of our own code; generated code and libraries are SYSTEM. DroverTargets links it.
add_library(drover_warnings INTERFACE)
# -Wrestrict: GCC 12 reports std::string's own copies (GCC PR 105651).
target_compile_options(drover_warnings INTERFACE -Wall -Wextra -Werror -Wno-missing-field-initializers -Wno-restrict)

if(DROVER_SANITIZE)
  add_compile_options(-fsanitize=${DROVER_SANITIZE} -fno-omit-frame-pointer)
  # Warnings are the release preset's affair: GCC reports what the sanitizers' own code makes of libraries.
  target_compile_options(drover_warnings INTERFACE -w)
  # Several sources in one compilation: these presets are built whole and seldom, and take half the time so.
  # A name that two sources of a target have for themselves is what this costs: see UNITY_BUILD in CMake.
  set(CMAKE_UNITY_BUILD ON)
  set(CMAKE_UNITY_BUILD_BATCH_SIZE 8)
  add_link_options(-fsanitize=${DROVER_SANITIZE})
  if(DROVER_SANITIZE MATCHES "thread")
    # Debian's libraries are built without it, and protobuf's headers give messages with maps another layout under it.
    # libstdc++ keeps knowing: its shared_ptr has a path that the sanitizer does not understand.
    add_compile_options(-U__SANITIZE_THREAD__ -D_GLIBCXX_TSAN=1)
  endif()
  if(DROVER_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
endif()

if(DROVER_FUZZ)
  # Coverage feedback for libFuzzer; the targets in tests/fuzz link its main().
  add_compile_options(-fsanitize=fuzzer-no-link)
  add_link_options(-fsanitize=fuzzer-no-link)
endif()
