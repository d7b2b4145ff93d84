# cmake -D LIBRARY=... -P symbols_test.cmake: every visible symbol is one of namespace tenure, and no message's.
execute_process(COMMAND nm --dynamic --defined-only --demangle ${LIBRARY}
  OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" symbols "${symbols}")
if(NOT symbols MATCHES "tenure::Client::Connect")
  message(FATAL_ERROR "the public symbols are not visible: ${symbols}")
endif()
foreach(symbol IN LISTS symbols)
  string(REGEX REPLACE "^[0-9a-f]+ . " "" name "${symbol}")
  if(NOT name MATCHES "^((typeinfo|typeinfo name|vtable) for )?tenure::" OR name MATCHES "tenure::v1::")
    message(FATAL_ERROR "${symbol} is visible")
  endif()
endforeach()
