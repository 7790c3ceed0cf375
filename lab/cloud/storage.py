# SPDX-License-Identifier: Apache-2.0
"""The sections of configuration files for Ceph, and for Cinder on it.

The values are those of :mod:`lab.cloud.configuration`.
"""

#: Cinder's backend, and its type of volumes; Glance's store.
BACKEND = 'ceph'

#: Cinder's other availability zone, with the same pool behind it.
OTHER_ZONE = 'elsewhere'

#: The backends for each of which cinder-volume has a process.
BACKENDS = (BACKEND, OTHER_ZONE)

#: The secrets of libvirt with the keys of Ceph's users, by these.
SECRETS = {
    'cinder': 'b0c6ef8f-4c1c-46d2-9aa4-7a2c8a0c5e30',
    'nova': '5f2c7cf1-6a8e-4f0f-9a76-0f7a1cf1a2d4',
}

#: The addition to Glance's configuration.
GLANCE = """\
[DEFAULT]
enabled_backends = file:file, ceph:rbd
# Cinder and Nova clone an image where it is, and Nova adds such a place.
show_image_direct_url = true
show_multiple_locations = true
[glance_store]
default_backend = ceph
[ceph]
rbd_store_pool = images
rbd_store_user = glance
rbd_store_ceph_conf = {ceph_conf}
rbd_thin_provisioning = true
rados_connect_timeout = 30
"""

#: The addition to Nova's configuration.
NOVA = """\
[cinder]
catalog_info = block-storage::publicURL
{cinder_endpoint}
os_region_name = {region}
[key_manager]
backend = nova.keymgr.conf_key_mgr.ConfKeyManager
fixed_key = {volume_key}
[libvirt]
images_rbd_pool = vms
images_rbd_ceph_conf = {ceph_conf}
rbd_user = nova
rbd_secret_uuid = {nova_secret}
"""

CINDER = """\
[DEFAULT]
debug = true
host = {host}
my_ip = {address}
state_path = {var}/cinder
image_conversion_dir = {var}/cinder/conversion
transport_url = {transport_url}
api_paste_config = {etc}/cinder/api-paste.ini
resource_query_filters_file = {etc}/cinder/resource_filters.json
enabled_backends = ceph, elsewhere
default_volume_type = ceph
glance_api_servers = {glance_url}
report_interval = 10
# The scheduler learns soon of what has become full, and of what has not.
periodic_interval = 5
backend_stats_polling_interval = 5
graceful_shutdown_timeout = 2
[backend_defaults]
volume_driver = cinder.volume.drivers.rbd.RBDDriver
volume_backend_name = ceph
rbd_pool = volumes
rbd_user = cinder
rbd_ceph_conf = {ceph_conf}
rbd_secret_uuid = {cinder_secret}
# Where Ceph does not answer, a call fails rather than hangs.
rados_connect_timeout = 10
rados_connection_retries = 1
report_discard_supported = true
[cinder_sys_admin]
helper_command = {cinder_privsep_helper}
[ceph]
[elsewhere]
backend_availability_zone = elsewhere
[coordination]
backend_url = file://{var}/cinder/coordination
[database]
connection = {cinder_database}
sqlite_synchronous = false
[key_manager]
backend = cinder.keymgr.conf_key_mgr.ConfKeyManager
fixed_key = {volume_key}
[keystone_authtoken]
service_token_roles_required = true
{cinder_account}[nova]
{cinder_account}[oslo_concurrency]
lock_path = {var}/lock
[oslo_messaging_notifications]
driver = noop
[privsep_osbrick]
helper_command = {cinder_privsep_helper}
[service_user]
send_service_user_token = true
{cinder_account}"""
