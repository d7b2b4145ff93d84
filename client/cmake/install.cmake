# What a program outside of this repository builds against: the shared library, the archives, the public headers under
# include/tenure, and a package that find_package(tenure) finds.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(PUBLIC_HEADERS
  client/client.h client/device_buffer.h client/weights/digest.h client/dtype.h client/options.h
  client/segment.h client/segment_layout.h client/tensor.h client/weights_file.h
  common/bytes.h common/check.h common/export.h common/cuda/device.h common/cuda/ipc_handle.h common/cuda/vmm.h common/limits.h
  common/memory_kind.h common/unique_fd.h)
# A header that an earlier configuration left there would be installed, too.
file(REMOVE_RECURSE ${CMAKE_CURRENT_BINARY_DIR}/installed)
# Inside the repository includes are rooted there; installed, they are rooted in include/tenure, so that no other
# program's "common/bytes.h" is meant.
foreach(header IN LISTS PUBLIC_HEADERS ITEMS client/include/tenure/client.h)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${header})
  file(READ ${PROJECT_SOURCE_DIR}/${header} text)
  string(REGEX REPLACE "#include \"(client|common)/" "#include \"tenure/\\1/" text "${text}")
  string(REPLACE "client/include/tenure/" "" installed ${header})
  file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/installed/${installed} CONTENT "${text}" @ONLY)
endforeach()
install(DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/installed/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tenure
  COMPONENT client)

foreach(room tenure_client tenure_session tenure_weights tenure_cuda tenure_proto tenure_common)
  install(FILES $<TARGET_FILE:${room}> DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT client)
endforeach()

# For a client in another language, and for one that tries itself without a GPU.
install(DIRECTORY ${PROJECT_SOURCE_DIR}/proto/tenure/v1 DESTINATION ${CMAKE_INSTALL_DATADIR}/tenure/proto/tenure
  COMPONENT client FILES_MATCHING PATTERN "*.proto")
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/tenure COMPONENT client)
install(TARGETS tenure_emulated_cuda LIBRARY DESTINATION lib/tenure COMPONENT client)

if(TARGET tenure_client_shared)
  install(TARGETS tenure_client_shared LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT client)
endif()

set(PACKAGE_FOLDER ${CMAKE_INSTALL_LIBDIR}/cmake/tenure)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/tenureConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/tenureConfig.cmake INSTALL_DESTINATION ${PACKAGE_FOLDER}
  PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/tenureConfigVersion.cmake
  VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/tenureConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/tenureConfigVersion.cmake
  DESTINATION ${PACKAGE_FOLDER} COMPONENT client)
