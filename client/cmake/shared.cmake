# tenure::client, one shared object for all that use it in a process: the rooms of the client with none but the public
# symbols visible. The rooms that see messages are compiled again, with the lite messages (proto/CMakeLists.txt).
set(sources "")
foreach(room tenure_client tenure_session)
  get_target_property(folder ${room} SOURCE_DIR)
  get_target_property(names ${room} SOURCES)
  list(TRANSFORM names PREPEND ${folder}/)
  list(APPEND sources ${names})
endforeach()
add_library(tenure_client_shared SHARED ${sources})
set(exports ${CMAKE_CURRENT_LIST_DIR}/exports.map)
set_target_properties(tenure_client_shared PROPERTIES
  OUTPUT_NAME tenure_client VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
  LINK_DEPENDS ${exports})
# Whole archives: a program may use a public function of theirs that the library itself does not use.
set(archives "")
foreach(room tenure_weights tenure_cuda tenure_common)
  list(APPEND archives $<TARGET_FILE:${room}>)
  add_dependencies(tenure_client_shared ${room})
endforeach()
target_link_options(tenure_client_shared PRIVATE -Wl,--version-script=${exports} -Wl,-z,defs -Wl,-Bsymbolic-functions)
target_link_libraries(tenure_client_shared
  PUBLIC tenure_options absl::span absl::status absl::statusor absl::strings absl::time
  PRIVATE tenure_warnings -Wl,--whole-archive ${archives} -Wl,--no-whole-archive tenure_proto_lite tenure_weights
    tenure_cuda tenure_common absl::flat_hash_map absl::flat_hash_set absl::random_random absl::synchronization)
