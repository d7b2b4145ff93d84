# Installs the client into a folder of its own and builds the README's example against it there.
#   cmake -D BUILD=... -D SOURCE=... -D WORK=... -P install_test.cmake
file(REMOVE_RECURSE ${WORK})
function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()
run(${CMAKE_COMMAND} --install ${BUILD} --strip --component client --prefix ${WORK}/prefix)
run(${CMAKE_COMMAND} -S ${SOURCE}/tests/client/consumer -B ${WORK}/build -D CMAKE_PREFIX_PATH=${WORK}/prefix
    -D EXAMPLE=${SOURCE}/client/examples/five_lines.cc -D CMAKE_CXX_FLAGS=${FLAGS})
run(${CMAKE_COMMAND} --build ${WORK}/build)
foreach(file share/doc/tenure/LICENSE share/tenure/proto/tenure/v1/allocator.proto lib/tenure/libtenure_emulated_cuda.so)
  if(NOT EXISTS ${WORK}/prefix/${file})
    message(FATAL_ERROR "${file} is not installed")
  endif()
endforeach()
# A program for an older language is told what it needs, and nothing else first.
file(WRITE ${WORK}/old.cc "#include <tenure/client.h>\n")
execute_process(COMMAND c++ -std=c++17 -fmax-errors=1 -fsyntax-only -I ${WORK}/prefix/include ${WORK}/old.cc
  RESULT_VARIABLE result ERROR_VARIABLE said)
if(result EQUAL 0 OR NOT said MATCHES "error: #error \"tenure needs C\\+\\+20")
  message(FATAL_ERROR "as C++17 the header gives ${result}: ${said}")
endif()
# Without a daemon each program says so, which is proof that it runs.
foreach(program consumer consumer_static)
  execute_process(COMMAND ${CMAKE_COMMAND} -E env TENURE_SOCKET=${WORK}/none ${WORK}/build/${program}
    RESULT_VARIABLE result ERROR_VARIABLE said)
  if(NOT result EQUAL 1 OR NOT said MATCHES "no daemon at")
    message(FATAL_ERROR "${program} ended with ${result}: ${said}")
  endif()
endforeach()
file(REMOVE_RECURSE ${WORK})
