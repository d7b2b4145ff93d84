# Installs the unit file UNIT with the path of the daemon that is installed with it, in the folder BINDIR of the prefix.
cmake_path(ABSOLUTE_PATH BINDIR BASE_DIRECTORY "${CMAKE_INSTALL_PREFIX}" NORMALIZE)
file(READ "${UNIT}" text)
string(REPLACE "=/usr/bin/tenured" "=${BINDIR}/tenured" text "${text}")
set(target "${CMAKE_INSTALL_PREFIX}/lib/systemd/system/tenured@.service")
message(STATUS "Installing: $ENV{DESTDIR}${target}")
file(WRITE "$ENV{DESTDIR}${target}" "${text}")
